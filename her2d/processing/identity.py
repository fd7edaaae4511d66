"""Recognise a scan that did not change, and two scans with the same content, also of many files."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from her2d.processing.errors import FileChangedError
from her2d.slides.errors import SlideError
from her2d.slides.formats.parts import scan_files, scan_stamp
from her2d.slides.integrity import refuse_oversized
from her2d.system.file_identity import (
    FileStamp,
    FileState,
    content_hash,
    hash_of_first_block,
    hash_of_open_file,
    hash_of_open_first_block,
)
from her2d.system.open_files import NotAFileError, open_file, open_folder


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan while it is hashed and scored: the file that is hashed is the file that is scored.

    Attributes:
        path: the scan.
        state: what it looked like when it was opened.
        descriptor: of its file, which is open; None for a scan of several files.
        inbox: a folder below which links are not followed; None if every link is.
    """

    path: Path
    state: FileState
    descriptor: int | None
    inbox: Path | None

    def content_hash(self, on_progress: Callable[[], None] = lambda: None) -> str:
        """Return the scan's hash: of its file, or over the hashes of its files.

        The names of the files and their order do not count: archives name the files of a DICOM
        slide as they like.

        Args:
            on_progress: called after every MiB; an error that it raises ends the reading.

        Raises:
            SlideError: almost all of the file is unused, and reading it would take hours.
            OSError: a file cannot be read.
        """
        if self.descriptor is not None:
            refuse_oversized(self.path, self.descriptor)
            return hash_of_open_file(self.descriptor, on_progress=on_progress)
        return _joined(
            content_hash(file, on_progress=on_progress) for file in scan_files(self.path)
        )

    def first_block(self) -> str:
        """Return the hash of the scan's first MiB, or over those of its files.

        Scans of another size or another first block have other contents, which costs no reading.

        Raises:
            SlideError, OSError: as `content_hash`.
        """
        if self.descriptor is not None:
            refuse_oversized(self.path, self.descriptor)
            return hash_of_open_first_block(self.descriptor)
        return _joined(map(hash_of_first_block, scan_files(self.path)))

    def stamp(self) -> FileStamp:
        """Return what the scan's files look like now, to know them again later. Raises OSError."""
        if self.descriptor is None:
            return scan_stamp(self.path)
        return FileStamp.of([os.fstat(self.descriptor)])

    def require_unchanged(self) -> None:
        """Check that the scan was not written to, and is still found at its path.

        Raises:
            FileChangedError: a file was written to, replaced, added or removed.
            SlideError: there is a link on the way to the file now.
            OSError: a file cannot be examined.
        """
        with open_scan(self.path, self.inbox) as now:
            states = {now.state, self._state_of_open_file()}
        if states != {self.state}:
            raise FileChangedError(f"{self.path.name} changed while it was read.")

    def _state_of_open_file(self) -> FileState:
        if self.descriptor is None:
            return self.state
        return FileState.from_stat(os.fstat(self.descriptor))


@contextmanager
def open_scan(path: Path, inbox: Path | None = None) -> Iterator[Scan]:
    """Open a scan; its file is closed when the block ends.

    Args:
        path: as for `open_slide`.
        inbox: the folder that it must be in, without a link on the way; None if it may be anywhere.

    Raises:
        SlideError: there is a link on the way, or something other than a file.
        OSError: a file cannot be opened.
    """
    if inbox is None and (files := scan_files(path)) != [path]:
        yield Scan(path, _state_of_all(files), None, None)
        return
    place = path if inbox is not None else path.resolve(strict=True)
    try:
        with open_folder(place.parent, inbox) as folder:
            descriptor = open_file(place.name, folder)
    except NotAFileError as error:
        raise SlideError(path.name, str(error.strerror)) from error
    try:
        yield Scan(path, FileState.from_stat(os.fstat(descriptor)), descriptor, inbox)
    finally:
        os.close(descriptor)


def scan_hash(path: Path, *, on_progress: Callable[[], None] = lambda: None) -> str:
    """Open a scan and return its `content_hash`. Raises SlideError and OSError."""
    with open_scan(path) as scan:
        return scan.content_hash(on_progress)


def _joined(hashes: Iterable[str]) -> str:
    """Return one hash over those of a scan's files, in any order."""
    digest = hashlib.blake2b("\n".join(sorted(hashes)).encode(), digest_size=32)
    return f"blake2b:{digest.hexdigest()}"


def _state_of_all(files: list[Path]) -> FileState:
    """Return what changes when any of the files is written to, replaced, added or removed."""
    states = [FileState.of(file) for file in files]
    return FileState(
        0,
        sum(state.size for state in states),
        max((state.mtime_ns for state in states), default=0),
        max((state.ctime_ns for state in states), default=0),
    )
