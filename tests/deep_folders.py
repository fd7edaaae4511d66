"""Folders that are nested deeper than Python's stack, and than any path of the system is long."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEVELS = 1100


@contextmanager
def nested_folders(parent: Path, file: str | None = None) -> Iterator[Path]:
    """Create folders named `d` in each other below `parent`, and remove them afterwards.

    Args:
        parent: an existing folder.
        file: a file to create in the innermost one.
    """
    here = os.open(parent, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    if file is not None:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    try:
        yield parent / "d"
    finally:
        # Python's own function calls itself for each level.
        subprocess.run(["rm", "-rf", str(parent / "d")], check=True)
