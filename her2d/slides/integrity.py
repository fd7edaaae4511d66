"""Is this file a complete slide? Structure only, nothing is decoded.

Tells a file that is still being written (or copied) from one that never will be a slide.
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

# First bytes that are never all zero: JPEG's and JPEG 2000's start marker, zlib's header,
# LZW's clear code. Uncompressed pixels may well be zero.
_NEVER_ZERO_FIRST = frozenset({5, 6, 7, 8, 32946, 33003, 33005, 34712})


class Completeness(StrEnum):
    """Whether a file is all there."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"


@dataclass(frozen=True)
class Integrity:
    """What `check_integrity` found; `reason` continues the sentence "FILE ..."."""

    completeness: Completeness
    reason: str | None


def check_integrity(path: Path) -> Integrity:
    """Whether the file at `path` is a structurally complete TIFF or BigTIFF.

    COMPLETE: every IFD is reachable and every block of every image lies inside the file.
    INCOMPLETE: it could still be being written: empty, cut short, IFDs or blocks not there yet,
    written into a file of preallocated zeros, or not to be read at the moment.
    BROKEN: it is not a TIFF and cannot become one, or it contradicts itself.

    A block without bytes inside an image is a hole that some writers leave on purpose; it does
    not make a file incomplete unless it is the image's last. Never raises.
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
    """A read-only file descriptor of a regular file; never waits for a pipe's other end.

    Raises:
        OSError: it cannot be opened.
        BrokenError: it is a directory, pipe, socket or device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise BrokenError("is not a regular file")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BrokenError("is not a regular file")
    return fd


def complete_structure(fd: int) -> list[Directory]:
    """The file's directories, all of whose blocks are there.

    Raises:
        IncompleteError, BrokenError, OSError: as `read_structure`, and for blocks not there.
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
        # A copy into preallocated space reaches the last place last. Zeros elsewhere are damage.
        last = int(np.argmax(offsets))
        if not any(os.pread(fd, min(4, int(sizes[last])), int(offsets[last]))):
            raise IncompleteError(f"is not finished: the last block of {image} is still zeros")
