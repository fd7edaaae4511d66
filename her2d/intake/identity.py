"""What makes two files the same slide: their bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file is written to: its inode, size in bytes and mtime in ns."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at the file. Raises OSError."""
        found = path.stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def content_hash(path: Path) -> str:
    """BLAKE2b-256 of the file, streamed, as `blake2b:` and 64 hexadecimal digits.

    BLAKE2b is in the standard library and faster than a scanner's disk. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"blake2b:{digest.hexdigest()}"
