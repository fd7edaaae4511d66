"""A laboratory's calibration of a bundle, for tests that do not make one."""

from pathlib import Path
from typing import Any

import tomli_w

from her2d.bundle.loading import Bundle
from her2d.bundle.site_calibration import calibration_path

_MEASURE = {"value": 0.9, "low": 0.8, "high": 0.95}


def calibration_of(bundle: Bundle, *, from_percent: float = 3.0) -> dict[str, Any]:
    """The content of a calibration that sends slides to IHC from `from_percent`."""
    manifest = bundle.manifest
    return {
        "bundle": f"{manifest.name} {manifest.version}",
        "bundle_digest": bundle.digest,
        "signed_by": "Dr A. Li",
        "signed_at": "2026-03-02T09:30:00.000000Z",
        "software_version": "0.1.0",
        "slides": {
            "called": 240,
            "patients": 231,
            "positive": 40,
            "with_share": 0,
            "equivocal": 5,
            "without_call": 3,
            "first_finished": "2026-01-02",
            "last_finished": "2026-02-27",
        },
        "zone": {
            "sensitivity": 0.95,
            "from_percent": from_percent,
            "below_percent": 100 * manifest.decision.threshold,
            "positive_slides": 40,
            "positive_patients": 38,
            "sensitivity_at_least": 0.88,
            "sent": {"value": 0.1, "low": 0.07, "high": 0.14},
        },
        "measured": {
            "sensitivity": _MEASURE,
            "specificity": _MEASURE,
            "positive_predictive_value": _MEASURE,
            "negative_predictive_value": _MEASURE,
            "call_bias_points": {"value": 2.0, "low": -1.92, "high": 5.92},
            "interval_agrees": _MEASURE,
        },
    }


def write_calibration(bundle: Bundle, path: Path | None = None, **options: Any) -> Path:
    """Write `calibration_of` beside the bundle, or to `path`."""
    file = calibration_path(bundle, path)
    file.write_text(tomli_w.dumps(calibration_of(bundle, **options)))
    return file
