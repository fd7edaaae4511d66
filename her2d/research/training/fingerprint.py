"""Fingerprint of what a slide's prepared tiles were made from, to notice when it changes.

The size and modification time of a file stand for its contents, because hashing the slides of a
cohort takes hours.
"""

from pathlib import Path
from typing import Any, TypeAlias

from her2d.research.training.cohort import CohortSlide

Fingerprint: TypeAlias = dict[str, Any]
"""JSON object with a key for each input of a slide's tiles."""

_DESCRIPTIONS = {
    "he": "its H&E slide",
    "ihc": "its IHC slide",
    "annotation": "its annotation",
    "her2_status": "its HER2 status",
    "excluded": "its excluded tiles",
}


def fingerprint(slide: CohortSlide, excluded: dict[tuple[int, int], str]) -> Fingerprint:
    """Compute the fingerprint of a slide's inputs.

    Args:
        slide: A slide of a checked cohort.
        excluded: Reasons of its excluded tiles, by (column, row).

    Raises:
        OSError: A file is missing.
    """
    return {
        "he": _file(slide.he_path),
        "ihc": _file(slide.ihc_path),
        "annotation": _file(slide.annotation_path),
        "her2_status": slide.her2_status.value,
        "excluded": [[*at, reason] for at, reason in sorted(excluded.items())],
    }


def differences(saved: Fingerprint, current: Fingerprint) -> list[str]:
    """Name each input that differs, such as `its annotation`."""
    return [text for key, text in _DESCRIPTIONS.items() if saved.get(key) != current[key]]


def _file(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]
