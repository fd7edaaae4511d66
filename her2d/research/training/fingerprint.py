"""What a slide's prepared tiles were made from, so that they are made again when it changes.

Size and time of a file stand for what is in it: hashing a cohort of slides takes hours.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from her2d.research.training.cohort import CohortSlide

Fingerprint: TypeAlias = dict[str, Any]
"""As it is in JSON."""

_NAMED = {
    "he": "its H&E slide",
    "ihc": "its IHC slide",
    "annotation": "its annotation",
    "her2_status": "its HER2 status",
    "excluded": "its excluded tiles",
}


def fingerprint(slide: CohortSlide, excluded: dict[tuple[int, int], str]) -> Fingerprint:
    """What the tiles of `slide` would be made from now.

    Args:
        slide: of a checked cohort.
        excluded: (column, row) -> reason.

    Raises:
        OSError: a file is not there.
    """
    return {
        "he": _file(slide.he_path),
        "ihc": _file(slide.ihc_path),
        "annotation": _file(slide.annotation_path),
        "her2_status": slide.her2_status.value,
        "excluded": [[*at, reason] for at, reason in sorted(excluded.items())],
    }


def differences(kept: Fingerprint, now: Fingerprint) -> list[str]:
    """What changed, in words."""
    return [said for key, said in _NAMED.items() if kept.get(key) != now[key]]


def newer_than(slide: CohortSlide, prepared: Path) -> list[str]:
    """What was written after the file `prepared`, in words: for groups that have no fingerprint.

    Raises:
        OSError: a file is not there.
    """
    then = prepared.stat().st_mtime_ns
    return [_NAMED[key] for key, path in _files(slide) if path.stat().st_mtime_ns > then]


def _files(slide: CohortSlide) -> Iterator[tuple[str, Path]]:
    for key, path in (
        ("he", slide.he_path),
        ("ihc", slide.ihc_path),
        ("annotation", slide.annotation_path),
    ):
        if path is not None:
            yield key, path


def _file(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]
