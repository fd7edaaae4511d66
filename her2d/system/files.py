"""Files that are there whole or not at all."""

import os
import tempfile
import time
from pathlib import Path

_LONGEST_WRITE_S = 600.0


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to the disk, then rename. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f"{path.suffix}.part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete what writers that were killed left in `folder`; returns what that was.

    Younger ones may still be written: `her2d scan` works beside the daemon. Raises OSError.
    """
    oldest = time.time() - _LONGEST_WRITE_S
    leftovers = [path for path in folder.glob(".*.part") if path.stat().st_mtime < oldest]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers
