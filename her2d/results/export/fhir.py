"""Export a slide's result as an HL7 FHIR R4B DiagnosticReport with its Observation.

The models of fhir.resources check the structure (https://hl7.org/fhir/R4B/observation.html).
The codes are our own, because LOINC has no term for a status that an algorithm derives from H&E.
Reports are `preliminary` and name no patient, because her2d identifies slides by barcode only.
"""

from typing import Any

from fhir.resources.R4B.bundle import Bundle

from her2d.results.records import SlideResult

_CODES = "urn:her2d:codes"
_UCUM = "http://unitsofmeasure.org"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_INTERPRETATIONS = {"positive": "POS", "negative": "NEG", "indeterminate": "IND"}
_TITLE = "HER2 status read from H&E by HER2Net (research use only)"


def fhir_bundle(result: SlideResult) -> str:
    """Build a collection of Device, Specimen, Observation and DiagnosticReport, as JSON.

    Raises:
        ValueError: fhir.resources refuses it, which would be a defect of this module.
    """
    entries = [_device(result), _specimen(result), _observation(result), _report(result)]
    bundle = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "type": "collection",
            "timestamp": result.finished_at,
            "entry": [
                {"fullUrl": _url(result, entry["id"]), "resource": entry} for entry in entries
            ],
        }
    )
    return str(bundle.model_dump_json(indent=2))


def _device(result: SlideResult) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": "device",
        "deviceName": [{"name": "her2d", "type": "manufacturer-name"}],
        "version": [
            {"type": {"text": kind}, "value": value}
            for kind, value in (
                ("software", result.software_version),
                ("git commit", result.git_commit),
                ("model bundle", f"{result.bundle_name} {result.bundle_version}"),
                ("model bundle digest", result.bundle_digest),
                ("calibration", result.calibration),
                ("runtime", f"{result.runtime} {result.runtime_version}, {result.precision}"),
                ("scikit-learn", result.scikit_learn_version),
            )
            if value is not None
        ],
    }


def _specimen(result: SlideResult) -> dict[str, Any]:
    identifiers = [{"system": "urn:her2d:content-hash", "value": result.content_hash}]
    if result.barcode:
        identifiers.append({"system": "urn:her2d:barcode", "value": result.barcode})
    return {
        "resourceType": "Specimen",
        "id": "specimen",
        "identifier": identifiers,
        "type": {"text": "H&E slide, gastric cancer"},
    }


def _observation(result: SlideResult) -> dict[str, Any]:
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": "observation",
        "status": "preliminary",
        "code": _code("her2-high-expression-percent", "Share of tumour that is HER2-high"),
        "specimen": {"reference": _url(result, "specimen")},
        "device": {"reference": _url(result, "device")},
        "effectiveDateTime": result.finished_at,
        "issued": result.finished_at,
        "interpretation": [
            {
                "coding": [
                    {"system": _INTERPRETATION, "code": _INTERPRETATIONS[result.her2_status]}
                ],
                "text": result.her2_status
                + (", borderline" if result.borderline else "")
                + (", send to IHC" if result.send_to_ihc else ""),
            }
        ],
        "referenceRange": [
            {
                "low": _percent(result.threshold_percent),
                "text": f"positive from {result.threshold_percent:g} %, the bundle's threshold",
            }
        ],
        "note": [
            {"text": text}
            for text in (
                "Research use only.",
                result.ci_meaning,
                result.ihc_advice,
                result.barcode_remark,
                result.scale_remark,
            )
            if text
        ],
    }
    if result.high_expression_percent is None:
        observation["dataAbsentReason"] = {
            "coding": [{"system": _CODES, "code": result.reason_code}],
            "text": result.reason,
        }
        return observation
    observation["valueQuantity"] = _percent(result.high_expression_percent)
    observation["component"] = [
        {"code": _code(code, text), "valueQuantity": _percent(value)}
        for code, text, value in (
            ("ci-low", f"95 % interval, lower end{_calibrated(result)}", result.ci_low),
            ("ci-high", f"95 % interval, upper end{_calibrated(result)}", result.ci_high),
        )
        if value is not None
    ]
    return observation


def _calibrated(result: SlideResult) -> str:
    return "" if result.ci_calibrated else ", not calibrated"


def _report(result: SlideResult) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": "report",
        "status": "preliminary",
        "code": _code("her2-h-and-e", _TITLE),
        "specimen": [{"reference": _url(result, "specimen")}],
        "effectiveDateTime": result.finished_at,
        "issued": result.finished_at,
        "result": [{"reference": _url(result, "observation")}],
        "conclusion": f"HER2 {result.her2_status}. Research use only, not for diagnosis.",
    }


def _code(code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": _CODES, "code": code, "display": text}], "text": text}


def _percent(value: float) -> dict[str, Any]:
    return {"value": round(value, 3), "unit": "%", "system": _UCUM, "code": "%"}


def _url(result: SlideResult, name: str) -> str:
    return f"urn:her2d:run:{result.run_id}:{name}"
