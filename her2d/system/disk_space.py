"""Is there room for results? Decided before a write fails."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_RESUME_FACTOR = 1.1  # a little more than what paused it, or it would flutter


def should_pause(free_mb: float, min_free_mb: float, *, paused: bool) -> bool:
    """Whether intake pauses with so many megabytes free; `paused`: whether it does so now."""
    return free_mb < min_free_mb * (_RESUME_FACTOR if paused else 1.0)


def least_free_mb(folders: Iterable[Path]) -> float:
    """Megabytes (10^6 bytes) free on the fullest of the file systems that `folders` lie on.

    A folder that is not there yet counts as the nearest above it that is. Raises OSError.
    """
    return min(shutil.disk_usage(existing_folder(folder)).free / 1e6 for folder in folders)


def existing_folder(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
