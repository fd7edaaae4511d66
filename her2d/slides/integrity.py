"""Check whether a file is a structurally complete slide, without decoding pixels.

The check tells a file that is still being written or copied from one that cannot become a slide.
"""

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from her2d.slides.structure import (
    BrokenError,
    Directory,
    IncompleteError,
    StructureError,
    read_structure,
)

# Compressions (tag 259) whose data never begins with zeros: JPEG and JPEG 2000 begin with a marker,
# deflate with a header, LZW with its clear code. Uncompressed pixels may be zero.
_NEVER_ZERO_FIRST = frozenset({5, 6, 7, 8, 32946, 33003, 33005, 34712})


class Completeness(StrEnum):
    """Whether all parts of a file are there."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"


@dataclass(frozen=True)
class Integrity:
    """What `check_integrity` found.

    Attributes:
        completeness: whether all parts of the file are there.
        reason: why they are not; it continues the sentence "FILE ...". None for COMPLETE.
    """

    completeness: Completeness
    reason: str | None


def check_integrity(path: Path) -> Integrity:
    """Return whether the file at `path` is a structurally complete TIFF or BigTIFF.

    COMPLETE: every IFD can be reached, and every block of every image lies within the file.
    INCOMPLETE: the file may still be being written. It is empty or cut short, lacks IFDs or
    blocks, is partly filled with preallocated zeros, or cannot be read at the moment.
    BROKEN: it is not a TIFF and cannot become one, or it contradicts itself.

    Some programs leave blocks without bytes within an image on purpose. Such a block does not make
    a file incomplete unless it is the last of its image. Never raises.
    """
    try:
        fd = open_regular(path)
    except OSError as error:
        return Integrity(Completeness.INCOMPLETE, f"cannot be opened: {error.strerror}")
    except BrokenError as error:
        return Integrity(Completeness.BROKEN, str(error))
    try:
        complete_structure(fd)
    except IncompleteError as error:
        return Integrity(Completeness.INCOMPLETE, str(error))
    except StructureError as error:
        return Integrity(Completeness.BROKEN, str(error))
    except OSError as error:
        return Integrity(Completeness.INCOMPLETE, f"cannot be read: {error.strerror}")
    finally:
        os.close(fd)
    return Integrity(Completeness.COMPLETE, None)


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


def complete_structure(fd: int) -> list[Directory]:
    """Return the directories of the open file `fd` after checking that their blocks are there.

    Raises:
        IncompleteError: the file may still be being written.
        BrokenError: the file is not a TIFF, or contradicts itself.
        OSError: the storage failed.
    """
    directories = read_structure(fd)
    size = os.fstat(fd).st_size
    for directory in directories:
        _check_blocks(fd, size, directory)
    return directories


def _check_blocks(fd: int, size: int, directory: Directory) -> None:
    offsets, sizes = directory.block_offsets, directory.block_bytes
    image = f"the image of {directory.width} x {directory.height} pixels"
    if offsets[-1] == 0 or sizes[-1] == 0:
        raise IncompleteError(f"is not finished: {image} has no last block yet")
    beyond = int(np.count_nonzero(offsets + sizes > size))
    if beyond:
        raise IncompleteError(
            f"is cut short: {beyond} of {len(offsets)} blocks of {image} lie beyond the "
            f"file's end ({size} bytes)"
        )
    if directory.compression in _NEVER_ZERO_FIRST:
        # A copy into preallocated space fills the end of the file last. Zeros elsewhere are damage.
        last = int(np.argmax(offsets))
        if not any(os.pread(fd, min(4, int(sizes[last])), int(offsets[last]))):
            raise IncompleteError(f"is not finished: the last block of {image} is still zeros")
