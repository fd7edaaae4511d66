"""Export a slide's result as an HL7 FHIR transaction: a DiagnosticReport and what it refers to.

The models of fhir.resources check the structure (https://hl7.org/fhir/R4B). What is written is the
same in R4 and R4B. Every entry is a conditional create by an identifier that the same run, slide or
software always has, so that a server that gets the bundle twice stores everything once.

No result is `final` unless the settings say that a person has signed it before it is exported.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fhir.resources.R4B.bundle import Bundle

from her2d.method import MethodName
from her2d.results.export import fhir_codes as codes
from her2d.results.export.fhir_codes import concept, percent, quantity, standard
from her2d.results.export.fhir_picture import Picture, heatmap_picture
from her2d.results.pictures import PicturesMissing
from her2d.results.records import QualityFlag, SlideResult
from her2d.settings import FhirSettings

Resource = dict[str, Any]

_NAMESPACE = uuid.UUID("0f1f2a6e-3a0e-5a52-8c3b-6f3d6d0d5a6b")
_RESEARCH = "Research use only, not for diagnosis."
_INTERPRETATIONS = {
    "positive": ("POS", "Positive"),
    "negative": ("NEG", "Negative"),
    "indeterminate": ("IND", "Indeterminate"),
}
_CODES = {MethodName.HER2NET: "her2-h-and-e", MethodName.MIL: "her2-h-and-e-by-attention"}
_OBSERVED = {
    MethodName.HER2NET: "her2-high-expression-percent",
    MethodName.MIL: "her2-positive-probability",
}
_SHOWN = {
    MethodName.HER2NET: "HER2-high tumour in brown",
    MethodName.MIL: "Tumour with most attention in brown",
}
_NOT_APPLICABLE = frozenset({"not-he", "no-tumor"})


def fhir_bundle(
    result: SlideResult,
    settings: FhirSettings | None = None,
    *,
    subject: str | None = None,
    is_repeated: bool = False,
) -> str:
    """Build the transaction of a result, as JSON.

    Args:
        result: the result.
        settings: identifiers' systems, the status of a result, and how large its picture may be.
        subject: the patient's identifier in the settings' `subject_system`.
        is_repeated: whether the slide has an earlier result, which this one replaces.

    Raises:
        ValueError: fhir.resources refuses it, which would be a defect of this module.
    """
    report = _Report(result, settings or FhirSettings(), subject, is_repeated)
    bundle = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "id": str(report.run_id("bundle")),
            "type": "transaction",
            "timestamp": result.finished_at,
            "entry": [_entry(resource) for resource in report.resources()],
        }
    )
    return str(bundle.model_dump_json(indent=2))


def _entry(resource: Resource) -> Resource:
    """Return the entry that creates a resource unless the server has one with its identifier."""
    identifier = resource["identifier"][0]
    token = quote(f"{identifier['system']}|{identifier['value']}", safe=":/|")
    return {
        "fullUrl": f"urn:uuid:{resource['id']}",
        "resource": resource,
        "request": {
            "method": "POST",
            "url": resource["resourceType"],
            "ifNoneExist": f"identifier={token}",
        },
    }


@dataclass(frozen=True, slots=True)
class _Report:
    """The resources of one result."""

    result: SlideResult
    settings: FhirSettings
    given_subject: str | None
    is_repeated: bool

    def run_id(self, part: str) -> uuid.UUID:
        """Return the id of a part of this run, the same at each export and in a restored copy."""
        result = self.result
        run = f"{result.content_hash} {result.bundle_digest} {result.finished_at}"
        return uuid.uuid5(_NAMESPACE, f"run {run} {part}")

    def resources(self) -> Iterator[Resource]:
        """Generate the resources, each after those that it refers to."""
        yield self._device()
        yield self._specimen()
        yield self._observation()
        picture = self._picture()
        if picture is not None:
            yield self._media(picture)
        yield self._report(has_picture=picture is not None)

    # Identity

    @property
    def _device_id(self) -> uuid.UUID:
        versions = "; ".join(f"{kind} {value}" for kind, value in self._versions())
        return uuid.uuid5(_NAMESPACE, f"device {versions}")

    @property
    def _specimen_id(self) -> uuid.UUID:
        return uuid.uuid5(_NAMESPACE, f"specimen {self.result.content_hash}")

    @property
    def _is_whose(self) -> bool:
        """Whether it is certain whose slide this is."""
        return QualityFlag.BARCODE_MISMATCH not in self.result.quality_flags

    def _subject(self) -> Resource:
        """Return the field `subject`, if the patient is known and the slide's barcode not doubtful.

        The patient is named by identifier, because her2d does not know the server's address of it.
        """
        system = self.settings.subject_system
        if system is None or self.given_subject is None or not self._is_whose:
            return {}
        identifier = {"system": system, "value": self.given_subject}
        return {"subject": {"type": "Patient", "identifier": identifier}}

    def _of_run(self, resource_type: str, part: str) -> Resource:
        """Return the fields that every resource of this run has."""
        found = self.run_id(part)
        return {
            "resourceType": resource_type,
            "id": str(found),
            "identifier": [{"system": codes.URI, "value": f"urn:uuid:{found}"}],
            **self._subject(),
        }

    @property
    def _status(self) -> str:
        """The status of observations and report, by what is known and who has seen it."""
        is_signed = self.settings.status == "final"
        is_certain = self.result.reason_code is None and not self.result.quality_flags
        if not is_signed or not is_certain:
            return "preliminary"
        return "amended" if self.is_repeated else "final"

    # Resources

    def _versions(self) -> list[tuple[str, str]]:
        result = self.result
        is_mil = result.method is MethodName.MIL  # its graphs need no scikit-learn
        found = (
            ("software", result.software_version),
            ("git commit", result.git_commit),
            ("model bundle", f"{result.bundle_name} {result.bundle_version}"),
            ("model bundle digest", result.bundle_digest),
            ("calibration", result.calibration),
            ("runtime", f"{result.runtime} {result.runtime_version}, {result.precision}"),
            ("scikit-learn", None if is_mil else result.scikit_learn_version),
        )
        return [(kind, value) for kind, value in found if value is not None]

    def _device(self) -> Resource:
        return {
            "resourceType": "Device",
            "id": str(self._device_id),
            "identifier": [{"system": codes.URI, "value": f"urn:uuid:{self._device_id}"}],
            "status": "active",
            "deviceName": [{"name": "her2d", "type": "manufacturer-name"}],
            "version": [
                {"type": {"text": kind}, "value": value} for kind, value in self._versions()
            ],
        }

    def _specimen(self) -> Resource:
        result = self.result
        specimen: Resource = {
            "resourceType": "Specimen",
            "id": str(self._specimen_id),
            "identifier": [{"system": codes.CONTENT_HASH, "value": result.content_hash}],
            "status": "available",
            "type": {
                **standard(codes.SNOMED, "119376003", "Tissue specimen"),
                "text": "Histological slide, gastric cancer",
            },
            **self._subject(),
            "collection": {"bodySite": standard(codes.SNOMED, "69695003", "Stomach structure")},
            "container": [{"type": standard(codes.SNOMED, "433466003", "Microscope slide")}],
        }
        if result.reason_code != "not-he":
            stain = standard(codes.SNOMED, "104210008", "Hematoxylin and eosin stain method")
            specimen["processing"] = [{"procedure": stain}]
        if result.barcode and self._is_whose:
            barcode = {"system": self.settings.accession_system, "value": result.barcode}
            kind = standard(codes.IDENTIFIER_TYPE, "ACSN", "Accession ID")
            specimen["identifier"].append(barcode)
            specimen["accessionIdentifier"] = {"type": kind, **barcode}
        return specimen

    def _observation(self) -> Resource:
        result = self.result
        observation = {
            **self._of_run("Observation", "observation"),
            "status": self._status,
            "category": [standard(codes.CATEGORY, "laboratory", "Laboratory")],
            "code": concept(_OBSERVED[result.method]),
            "specimen": _reference(self._specimen_id),
            "device": _reference(self._device_id),
            "effectiveDateTime": result.finished_at,
            "issued": result.finished_at,
            "interpretation": list(_interpretation(result)),
            "referenceRange": list(_reference_range(result)),
            "component": [
                *_components(result),
                *(_flag(flag, flag in result.quality_flags) for flag in QualityFlag),
                *(_measure(result, code) for code in codes.MEASURES),
            ],
            "note": [{"text": text} for text in self._notes()],
        }
        observed = _observed(result)
        if observed is None:
            observation["dataAbsentReason"] = _absent(result)
        else:
            observation["valueQuantity"] = observed
        return observation

    def _notes(self) -> Iterator[str]:
        result = self.result
        yield "Research use only."
        flags = [codes.FLAGS[flag] for flag in result.quality_flags]
        if flags:
            yield f"A person must look at the scan before the result is used. {'. '.join(flags)}."
        unreadable = result.tiles_unreadable
        if unreadable:
            why = f": {result.unreadable_reason.rstrip('.')}" if result.unreadable_reason else ""
            yield f"{unreadable} of {result.tiles_total} tiles cannot be read{why}."
        outcome, plane = result.outcome_text, result.focal_plane
        yield from filter(
            None,
            (
                result.ci_meaning,
                result.ihc_advice,
                result.barcode_remark,
                result.scale_remark,
                f"Focal plane {plane}." if plane else None,
                result.unread_pictures,
                f"IHC and FISH: {outcome}." if outcome else None,
            ),
        )

    def _picture(self) -> Picture | None:
        try:
            return heatmap_picture(self.result, int(self.settings.picture_kb * 1000))
        except PicturesMissing:
            return None  # the report says that there is none

    def _media(self, picture: Picture) -> Resource:
        return {
            **self._of_run("Media", "heatmap"),
            "status": "completed",
            "type": standard(codes.MEDIA_TYPE, "image", "Image"),
            "createdDateTime": self.result.finished_at,
            "device": _reference(self._device_id),
            "width": picture.width,
            "height": picture.height,
            "content": picture.attachment(self.result),
        }

    def _report(self, *, has_picture: bool) -> Resource:
        result = self.result
        reason = f" {result.reason}" if result.reason else ""
        checks = [codes.FLAGS[flag] for flag in result.quality_flags]
        check = f" To be checked: {'; '.join(checks)}." if checks else ""
        no_picture = "" if has_picture else " Without the heatmap."
        report = {
            **self._of_run("DiagnosticReport", "report"),
            "status": self._status,
            "category": [standard(codes.SECTION, "SP", "Surgical Pathology")],
            "code": concept(_CODES[result.method]),
            "specimen": [_reference(self._specimen_id)],
            "effectiveDateTime": result.finished_at,
            "issued": result.finished_at,
            "result": [_reference(self.run_id("observation"))],
            "conclusion": f"HER2 {result.her2_status}.{reason}{check}{no_picture} {_RESEARCH}",
            "conclusionCode": [concept(f"her2-{result.her2_status}")],
        }
        if has_picture:
            link = _reference(self.run_id("heatmap"))
            report["media"] = [{"comment": _SHOWN[result.method], "link": link}]
        return report


def _reference(found: uuid.UUID) -> Resource:
    return {"reference": f"urn:uuid:{found}"}


def _observed(result: SlideResult) -> Resource | None:
    """Return what the call rests on: P, or a probability; None without a call."""
    if result.high_expression_percent is not None:
        return percent(result.high_expression_percent)
    if result.positive_probability is not None:
        return quantity(result.positive_probability, "1")
    return None


def _reference_range(result: SlideResult) -> Iterator[Resource]:
    if result.threshold_percent is not None:
        threshold, text = percent(result.threshold_percent), f"{result.threshold_percent:g} %"
    elif result.probability_threshold is not None:
        threshold = quantity(result.probability_threshold, "1")
        text = f"a probability of {result.probability_threshold:g}"
    else:
        return
    yield {
        "low": threshold,
        "type": {"text": "HER2 positive"},
        "text": f"positive from {text}, the bundle's threshold",
    }
    yield {
        "high": threshold,
        "type": {"text": "HER2 negative"},
        "text": f"negative below {text}",
    }


def _interpretation(result: SlideResult) -> Iterator[Resource]:
    code, display = _INTERPRETATIONS[result.her2_status]
    borderline = ", borderline" if result.borderline else ""
    text = f"{result.her2_status}{borderline}{', send to IHC' if result.send_to_ihc else ''}"
    yield {**standard(codes.INTERPRETATION, code, display), "text": text}
    if result.borderline:
        yield concept("borderline")
    if result.send_to_ihc:
        yield concept("send-to-ihc")


def _components(result: SlideResult) -> Iterator[Resource]:
    calibrated = "" if result.ci_calibrated else ", not calibrated"
    for code, value in (("ci-low", result.ci_low), ("ci-high", result.ci_high)):
        if value is not None:
            text = f"{codes.CODES[code]}{calibrated}"
            yield {"code": concept(code, text), "valueQuantity": percent(value)}
    if result.threshold_percent is not None:
        threshold = percent(result.threshold_percent)
        yield {"code": concept("threshold-percent"), "valueQuantity": threshold}
    if result.tile_cut is not None:
        yield {"code": concept("tile-cut"), "valueQuantity": quantity(result.tile_cut, "1")}
    if result.probability_threshold is not None:
        threshold = quantity(result.probability_threshold, "1")
        yield {"code": concept("probability-threshold"), "valueQuantity": threshold}


def _absent(result: SlideResult) -> Resource:
    """Return why there is no number: her2d's reason code, and what it is in FHIR's terms."""
    found = concept(str(result.reason_code), result.reason)
    if result.reason_code in _NOT_APPLICABLE:
        in_fhir = standard(codes.ABSENT, "not-applicable", "Not Applicable")
    else:
        in_fhir = standard(codes.ABSENT, "not-performed", "Not Performed")
    return {**found, "coding": found["coding"] + in_fhir["coding"]}


def _flag(flag: QualityFlag, is_raised: bool) -> Resource:
    code, display = ("A", "Abnormal") if is_raised else ("N", "Normal")
    return {
        "code": concept(f"flag-{flag}"),
        "valueBoolean": is_raised,
        "interpretation": [standard(codes.INTERPRETATION, code, display)],
    }


def _measure(result: SlideResult, code: str) -> Resource:
    value = getattr(result, code.replace("-", "_"))
    if value is None:
        absent = standard(codes.ABSENT, "not-applicable", "Not Applicable")
        return {"code": concept(code), "dataAbsentReason": absent}
    if code.endswith("-percent"):
        found = percent(value)
    elif code.endswith("-mm2"):
        found = quantity(value, "mm2")
    elif code.startswith("tiles-"):
        found = quantity(value, "tiles", "{tiles}")
    elif code == "um-per-px":
        found = quantity(value, "um/px", "um")
    else:
        found = quantity(value, "1")
    return {"code": concept(code), "valueQuantity": found}
