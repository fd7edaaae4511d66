"""Recognise a file that did not change, and two files with the same content."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from her2d.system.linux import keeps_change_time, stores_inodes

_CHUNK_BYTES = 1 << 20
_LARGEST = 2**63 - 1  # SQLite's largest integer; some file systems store years after 2262


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file is written to or replaced.

    Attributes:
        inode: 0 on file systems where it may differ after the next mount: network shares, FUSE,
            overlays and FAT.
        size: in bytes.
        mtime_ns: time of the last change of the content, in nanoseconds since 1970, which every
            program may set to another time.
        ctime_ns: time of the last change of the content or of anything else, which no program can
            set; 0 on file systems that do not keep it. Renaming a file, giving it another owner or
            restoring its times also changes it.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: Path) -> Self:
        """Examine the file at `path`.

        Raises:
            OSError: the file cannot be examined.
        """
        return cls.from_stat(path.stat())

    @classmethod
    def from_stat(cls, found: os.stat_result) -> Self:
        inode = found.st_ino if stores_inodes(found.st_dev) else 0
        ctime_ns = found.st_ctime_ns if keeps_change_time(found.st_dev) else 0
        return cls(
            inode & _LARGEST, found.st_size, _storable(found.st_mtime_ns), _storable(ctime_ns)
        )

    def same_file(self, other: "FileState") -> bool:
        """Return whether both are the same file; an inode of 0 equals any other.

        The change time does not count, because a file that was only renamed is the same.
        """
        inodes = {self.inode, other.inode} - {0}
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns) and len(inodes) < 2

    def is_unchanged(self, since: "FileState") -> bool:
        """Return whether nothing about the file has changed; what is not known is not compared."""
        ctimes = {self.ctime_ns, since.ctime_ns} - {0}
        return self.same_file(since) and len(ctimes) < 2

    def is_surely_unchanged(self, since: "FileState") -> bool:
        """Return whether the change time proves that the content is as it was."""
        return self.is_unchanged(since) and 0 not in (self.ctime_ns, since.ctime_ns)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the files of a scan look like at a moment.

    Attributes:
        size: in bytes, of all files.
        mtime_ns: time of the last change to the content of the newest file.
        ctime_ns: time of the last change to a file, its name and its times included. No program
            can put it back, but moving a file changes it, too.
    """

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: Sequence[os.stat_result]) -> Self:
        return cls(
            sum(each.st_size for each in found),
            _storable(max((each.st_mtime_ns for each in found), default=0)),
            _storable(max((each.st_ctime_ns for each in found), default=0)),
        )


def _storable(nanoseconds: int) -> int:
    return max(-_LARGEST, min(nanoseconds, _LARGEST))


class FileHash:
    """The hash of a file that is read in order, as `content_hash` returns it.

    BLAKE2b is in the standard library and, at 1 GB/s, faster than a scanner's disk or share.
    """

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=32)

    def update(self, data: bytes) -> None:
        """Add the file's next bytes."""
        self._digest.update(data)

    @property
    def value(self) -> str:
        """The hash of what was added: `blake2b:` and 64 hexadecimal digits."""
        return f"blake2b:{self._digest.hexdigest()}"


def content_hash(path: Path, *, on_progress: Callable[[], None] = lambda: None) -> str:
    """Return the file's BLAKE2b-256 hash, as `blake2b:` and 64 hexadecimal digits.

    Args:
        path: the file.
        on_progress: called after every MiB; an error that it raises ends the reading.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_of_open_file(descriptor, on_progress=on_progress)
    finally:
        os.close(descriptor)


def hash_of_first_block(path: Path) -> str:
    """Return the hash of a file's first MiB, as `content_hash` does of all of it.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_of_open_first_block(descriptor)
    finally:
        os.close(descriptor)


def hash_of_open_first_block(descriptor: int) -> str:
    """Return `hash_of_first_block` of an open file; its position in the file stays."""
    hashing = FileHash()
    hashing.update(os.pread(descriptor, _CHUNK_BYTES, 0))
    return hashing.value


def hash_of_open_file(descriptor: int, *, on_progress: Callable[[], None] = lambda: None) -> str:
    """Return `content_hash` of an open file; its position in the file stays."""
    hashing = FileHash()
    at = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, at):
        hashing.update(chunk)
        at += len(chunk)
        on_progress()
    return hashing.value
