"""Rebuild the JPEGs of old-style JPEG compression (code 6; TIFF 6.0, section 22).

Blocks are either whole JPEGs or coded data only. The tables and the frame of the latter are in a
JPEG stream elsewhere in the file (JPEGInterchangeFormat, tag 513) or in separate tags.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tifffile import TiffPage

from her2d.slides.block_format import BlockSize
from her2d.slides.errors import RefusedError

OLD_JPEG = 6

_PROCESS, _STREAM, _RESTART_INTERVAL = 512, 513, 515
_Q_TABLES, _DC_TABLES, _AC_TABLES, _SUBSAMPLING = 519, 520, 521, 530
_BASELINE = 1
_YCBCR = 6
_MOST_HEADER = 2**16  # bytes before the coded data of a stream
_START = b"\xff\xd8"
_SOF0, _SOF1, _SOS = 0xC0, 0xC1, 0xDA
_TABLES = frozenset({0xDB, 0xC4, 0xDD})

Read = Callable[[int, int], bytes]  # bytes of the file: offset, size


@dataclass(frozen=True, slots=True)
class OldJpegHeader:
    """What blocks of coded data lack to be JPEGs.

    Attributes:
        tables: segments of quantisation and Huffman tables, and of the restart interval.
        components: of the frame: number, sampling and quantisation table of each, 3 bytes each.
        scan: the segment before the coded data.
    """

    tables: bytes
    components: bytes
    scan: bytes

    def jpeg(self, data: bytes, size: BlockSize) -> bytes:
        """Return a block as a JPEG; one that is a JPEG already is returned as it is."""
        if data.startswith(_START):
            return data
        count = len(self.components) // 3
        frame = struct.pack(">BHHB", 8, size.visible_height, size.width, count) + self.components
        return _START + self.tables + _segment(_SOF0, frame) + self.scan + data


def old_jpeg_header(page: TiffPage) -> OldJpegHeader | None:
    """Read what blocks lack from a page's tags and file, or None where the file does not have it.

    Raises:
        RefusedError: the process is not baseline JPEG, or its tables are cut short.
        OSError: the storage failed.
    """
    if _BASELINE not in (*_numbers(page, _PROCESS), _BASELINE)[:1]:
        raise RefusedError("has old-style JPEG pixels that are not baseline, which cannot be read")
    file = page.parent.filehandle

    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return bytes(file.read(size))

    for stream in _numbers(page, _STREAM)[:1]:
        found = _of_stream(read(stream, _MOST_HEADER)) if stream else None
        if found is not None:
            return found
    return _of_tags(page, read)


def _of_stream(data: bytes) -> OldJpegHeader | None:
    tables, components, at = b"", b"", 2
    while data.startswith(_START) and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        segment = data[at : at + 2 + length]
        if marker in (_SOF0, _SOF1):
            components = segment[10:]
        elif marker in _TABLES:
            tables += segment
        elif marker == _SOS:
            return OldJpegHeader(tables, components, segment)
        at += 2 + length
    return None


def _of_tags(page: TiffPage, read: Read) -> OldJpegHeader | None:
    quantisation, dc, ac = (_numbers(page, tag) for tag in (_Q_TABLES, _DC_TABLES, _AC_TABLES))
    count = int(page.samplesperpixel)
    if not len(quantisation) == len(dc) == len(ac) == count:
        return None
    tables = b""
    for index in range(count):
        tables += _segment(0xDB, bytes((index,)) + _whole(read(quantisation[index], 64), 64))
        for kind, offset in ((0x00, dc[index]), (0x10, ac[index])):
            numbers = _whole(read(offset, 16), 16)
            values = _whole(read(offset + 16, min(sum(numbers), 256)), sum(numbers))
            tables += _segment(0xC4, bytes((kind | index,)) + numbers + values)
    for interval in _numbers(page, _RESTART_INTERVAL)[:1]:
        tables += _segment(0xDD, struct.pack(">H", interval & 0xFFFF))
    across, down = page.tags.valueof(_SUBSAMPLING, default=(2, 2))
    first = (int(across) << 4 | int(down)) & 0xFF if page.photometric == _YCBCR else 0x11
    components = b"".join(
        bytes((index + 1, 0x11 if index else first, index)) for index in range(count)
    )
    used = b"".join(bytes((index + 1, index << 4 | index)) for index in range(count))
    return OldJpegHeader(tables, components, _segment(_SOS, bytes((count,)) + used + b"\0\x3f\0"))


def _numbers(page: TiffPage, tag: int) -> Sequence[int]:
    return [int(value) for value in np.atleast_1d(page.tags.valueof(tag, default=()))]


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise RefusedError("has old-style JPEG tables that are cut short")
    return data


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
