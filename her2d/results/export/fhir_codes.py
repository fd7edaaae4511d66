"""The codes of the FHIR export: those of standard systems, and her2d's.

LOINC and SNOMED CT have no term for a HER2 status that a program reads from H&E. A term for HER2 by
immunohistochemistry would let another system file the result as that, so the codes of what is
observed are her2d's. Standard codes are used where they mean the same: interpretation, category,
the kind of specimen, its stain and site, units, the kind of an identifier.
"""

from collections.abc import Mapping
from typing import Any

from her2d.pipeline.evaluability import ReasonCode
from her2d.results.records import QualityFlag

HER2D = "urn:her2d:codes"
CONTENT_HASH = "urn:her2d:content-hash"
URI = "urn:ietf:rfc:3986"
UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
_HL7 = "http://terminology.hl7.org/CodeSystem"
INTERPRETATION = f"{_HL7}/v3-ObservationInterpretation"
CATEGORY = f"{_HL7}/observation-category"
SECTION = f"{_HL7}/v2-0074"
IDENTIFIER_TYPE = f"{_HL7}/v2-0203"
ABSENT = f"{_HL7}/data-absent-reason"
MEDIA_TYPE = f"{_HL7}/media-type"

MEASURES: Mapping[str, str] = {
    "tissue-mm2": "Tissue",
    "tumor-mm2": "Tumour that counts",
    "tiles-total": "Tiles",
    "tiles-tissue": "Tissue tiles",
    "tiles-tumor": "Tumour tiles",
    "tiles-strong": "HER2-high tiles",
    "tiles-unreadable": "Tiles that cannot be read",
    "blurred-percent": "Out of focus, of tissue",
    "tissue-fold-percent": "In folds, of tissue",
    "pen-percent": "Under pen marks, of the slide",
    "artefact-tumor-percent": "Tumour that is blurred, folded or under ink, and is not counted",
    "focus": "Focus, variance of the Laplacian",
    "stain-distance": "Stain, standard deviations from the reference",
    "pink-percent": "Pink, of stained tissue",
    "brown-percent": "Brown, of stained tissue",
    "foreign-percent": "Colours foreign to H&E, of stained tissue",
    "um-per-px": "Scale of the tiles",
}
FLAGS: Mapping[QualityFlag, str] = {
    QualityFlag.BLURRED: "The scan is out of focus",
    QualityFlag.FOLDED: "The tissue has folds",
    QualityFlag.PEN_MARKED: "The slide has pen marks",
    QualityFlag.STAIN_OUTLIER: "The stain is unusual",
    QualityFlag.BARCODE_MISMATCH: "The label shows another barcode than the file states",
    QualityFlag.OFF_SCALE: "The scale of the scan is doubtful",
}
CODES: Mapping[str, str] = {
    "her2-h-and-e": "HER2 status read from H&E by HER2Net (research use only)",
    "her2-h-and-e-by-attention": "HER2 status read from H&E by attention (research use only)",
    "her2-high-expression-percent": "Share of tumour that is HER2-high",
    "her2-positive-probability": "Probability that the slide is HER2-positive",
    "ci-low": "95 % interval, lower end",
    "ci-high": "95 % interval, upper end",
    "threshold-percent": "Share from which the models call a slide positive",
    "tile-cut": "Probability above which a tile is HER2-high",
    "probability-threshold": "Probability from which the models call a slide positive",
    "borderline": "The interval includes the threshold",
    "send-to-ihc": "Send to IHC, by the laboratory's calibration",
    "her2-positive": "HER2 positive by H&E",
    "her2-negative": "HER2 negative by H&E",
    "her2-indeterminate": "No HER2 call by H&E",
    **MEASURES,
    **{f"flag-{flag}": text for flag, text in FLAGS.items()},
    ReasonCode.NOT_HE: "The slide is not stained with H&E",
    ReasonCode.NO_TUMOR: "No tumour was found",
    ReasonCode.TOO_LITTLE_TUMOR: "Too little tumour for a call",
    ReasonCode.UNREADABLE: "Too much of the scan cannot be read",
    ReasonCode.BLURRED: "Too much is out of focus for a call",
    ReasonCode.FOLDED: "Too much is folded for a call",
    ReasonCode.PEN_MARKED: "Too much is under pen marks for a call",
    ReasonCode.WRONG_SCALE: "The scale of the scan is contradictory",
    ReasonCode.TOO_MUCH_TUMOR: "More tumour tiles than the models weigh",
}
"""Every code of the system HER2D, and what it means."""


def concept(code: str, text: str | None = None) -> dict[str, Any]:
    """Return one of her2d's codes as a CodeableConcept; `text` replaces what it means."""
    meaning = CODES[code]
    coding = {"system": HER2D, "code": str(code), "display": meaning}
    return {"coding": [coding], "text": text or meaning}


def standard(system: str, code: str, display: str) -> dict[str, Any]:
    """Return a code of a standard system as a CodeableConcept."""
    return {"coding": [{"system": system, "code": code, "display": display}]}


def quantity(value: float, unit: str, ucum: str | None = None) -> dict[str, Any]:
    """Return a Quantity; `ucum` is the unit's code if it is written otherwise."""
    return {"value": round(value, 6), "unit": unit, "system": UCUM, "code": ucum or unit}


def percent(value: float) -> dict[str, Any]:
    """Return a Quantity in percent."""
    return quantity(value, "%")
