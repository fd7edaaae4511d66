"""Check whether a file is a structurally complete slide, without decoding pixels.

The check tells a file that is still being written or copied from one that cannot become a slide.
"""

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from her2d.slides.errors import SlideError
from her2d.slides.structure import (
    BrokenError,
    Directory,
    IncompleteError,
    OversizedError,
    StructureError,
    read_structure,
)
from her2d.system.io_errors import is_forbidden
from her2d.system.ownership import read_hint

# Compressions (tag 259) whose data never begins with zeros: JPEG and JPEG 2000 begin with a marker,
# deflate with a header, LZW with its clear code. Uncompressed pixels may be zero.
_NEVER_ZERO_FIRST = frozenset({5, 6, 7, 8, 32946, 33003, 33005, 34712})


class Completeness(StrEnum):
    """Whether all parts of a file are there."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"


class Missing(StrEnum):
    """What keeps an incomplete file from being complete."""

    PERMISSION = "permission"
    """This user may not read it."""
    ACCESS = "access"
    """It cannot be opened or read at the moment."""
    DIRECTORIES = "directories"
    """Not every image directory is there, so that nothing of the file can be relied on."""
    BLOCKS = "blocks"
    """Every directory is there, and blocks are not: `open_slide` reads the others."""


@dataclass(frozen=True)
class Integrity:
    """What `check_integrity` found.

    Attributes:
        completeness: whether all parts of the file are there.
        reason: why they are not; it continues the sentence "FILE ...". None for COMPLETE.
        missing: which parts are not there. None unless INCOMPLETE.
    """

    completeness: Completeness
    reason: str | None
    missing: Missing | None = None


class _BlocksMissingError(IncompleteError):
    """Every directory of the file is there, and some of its blocks are not."""


def check_integrity(path: Path) -> Integrity:
    """Return whether the file at `path` is a structurally complete TIFF or BigTIFF.

    COMPLETE: every IFD can be reached, and every block that is stored lies within the file.
    INCOMPLETE: the file may still be being written. It is empty or cut short, lacks IFDs or
    blocks, is partly filled with preallocated zeros, or cannot be read at the moment.
    BROKEN: it is not a TIFF and cannot become one, or it contradicts itself.

    A block whose offset or byte count is 0 is bare glass that the program did not store, and does
    not make a file incomplete. An image without any stored block is not written yet. Never raises.
    """
    try:
        _check(path)
    except _BlocksMissingError as error:
        return _incomplete(str(error), Missing.BLOCKS)
    except IncompleteError as error:
        return _incomplete(str(error), Missing.DIRECTORIES)
    except StructureError as error:
        return Integrity(Completeness.BROKEN, str(error))
    except OSError as error:
        return not_accessible(error)
    return Integrity(Completeness.COMPLETE, None)


def not_accessible(error: OSError) -> Integrity:
    """Return the verdict on a file that cannot be opened or read at the moment."""
    if is_forbidden(error):
        return _incomplete(read_hint(), Missing.PERMISSION)
    return _incomplete(f"cannot be read: {error.strerror}", Missing.ACCESS)


def _incomplete(reason: str, missing: Missing) -> Integrity:
    return Integrity(Completeness.INCOMPLETE, reason, missing)


def open_regular(path: Path) -> int:
    """Open a regular file read-only and return its descriptor; never wait on a pipe.

    Raises:
        OSError: the file cannot be opened.
        BrokenError: the path is a directory, pipe, socket or device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise BrokenError("is not a regular file")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BrokenError("is not a regular file")
    return fd


def refuse_oversized(path: Path, fd: int) -> None:
    """Refuse a TIFF of which so little is images that reading all of it takes hours.

    Whatever else is wrong with the file is left to `open_slide`.

    Args:
        path: the file, for the error's sentence.
        fd: its descriptor.

    Raises:
        SlideError: it is such a file.
        OSError: it cannot be read.
    """
    try:
        read_structure(fd)
    except OversizedError as error:
        raise SlideError(path.name, str(error)) from error
    except StructureError:
        return


def _check(path: Path) -> None:
    """Raise StructureError if a directory, or a block that is stored, is not in the file."""
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        for directory in read_structure(fd):
            _check_blocks(fd, size, directory)
    finally:
        os.close(fd)


def _check_blocks(fd: int, size: int, directory: Directory) -> None:
    image = f"the image of {directory.width} x {directory.height} pixels"
    stored = directory.stored
    if not stored.any():
        raise _BlocksMissingError(f"is not finished: {image} has no block yet")
    offsets, sizes = directory.block_offsets[stored], directory.block_bytes[stored]
    beyond = int(np.count_nonzero(offsets + sizes > size))
    if beyond:
        raise _BlocksMissingError(
            f"is cut short: {beyond} of {len(stored)} blocks of {image} lie beyond the "
            f"file's end ({size} bytes)"
        )
    if directory.compression in _NEVER_ZERO_FIRST:
        # A copy into preallocated space fills the end of the file last. Zeros elsewhere are damage.
        last = int(np.argmax(offsets))
        if not any(os.pread(fd, min(4, int(sizes[last])), int(offsets[last]))):
            raise _BlocksMissingError(f"is not finished: the last block of {image} is still zeros")
