"""Decide whether there is room for results, before a write fails."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_RESUME_FACTOR = 1.1  # above the limit that paused it, so that intake does not pause at once again


def should_pause(free_mb: float, min_free_mb: float, *, paused: bool) -> bool:
    """Return whether intake should pause.

    Args:
        free_mb: free space in megabytes.
        min_free_mb: the limit that is configured, in megabytes.
        paused: whether intake is paused now; it then resumes a little above the limit.
    """
    return free_mb < min_free_mb * (_RESUME_FACTOR if paused else 1.0)


def least_free_mb(folders: Iterable[Path]) -> float:
    """Return the free megabytes (10^6 bytes) of the fullest file system among those of `folders`.

    For a folder that does not exist yet, the nearest existing folder above it counts.

    Raises:
        OSError: a folder cannot be examined.
    """
    return min(shutil.disk_usage(existing_folder(folder)).free / 1e6 for folder in folders)


def existing_folder(folder: Path) -> Path:
    """Return `folder`, or the nearest existing folder above it."""
    return next(path for path in (folder, *folder.parents) if path.exists())
