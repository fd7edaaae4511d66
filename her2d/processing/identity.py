"""Recognise a scan that did not change, and two scans with the same content, also of many files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from her2d.slides.formats.parts import scan_files
from her2d.slides.integrity import refuse_oversized
from her2d.system.file_identity import FileState, content_hash


def scan_state(path: Path) -> FileState:
    """Return what changes when any file of a scan is written to, replaced, added or removed.

    Raises:
        OSError: a file cannot be examined.
    """
    files = scan_files(path)
    if files == [path]:
        return FileState.of(path)
    states = [FileState.of(file) for file in files]
    newest = max((state.mtime_ns for state in states), default=0)
    return FileState(0, sum(state.size for state in states), newest)


def scan_hash(path: Path, *, on_progress: Callable[[], None] = lambda: None) -> str:
    """Return the content hash of a scan: of its file, or over the hashes of its files.

    The names of the files and their order do not count: archives name the files of a DICOM slide
    as they like.

    Args:
        path: as for `open_slide`.
        on_progress: called after every MiB; an error that it raises ends the reading.

    Raises:
        SlideError: almost all of the file is unused, and reading it would take hours.
        OSError: a file cannot be read.
    """
    files = scan_files(path)
    if files == [path]:
        refuse_oversized(path)
        return content_hash(path, on_progress=on_progress)
    hashes = sorted(content_hash(file, on_progress=on_progress) for file in files)
    digest = hashlib.blake2b("\n".join(hashes).encode(), digest_size=32)
    return f"blake2b:{digest.hexdigest()}"
