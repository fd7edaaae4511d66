"""Check the headers of JPEG and JPEG 2000 blocks before a decoder allocates memory for them.

Decoders trust the header of a block: a JPEG of 30 KB whose header states 65,500 x 65,500 pixels
takes 12 GB. They also fill missing pixels with grey and report success, so a JPEG without its end
marker is refused here. Changed bits within entropy-coded data cannot be found unless they form a
marker, because JPEG and JPEG 2000 have no checksum: such a block decodes to wrong pixels. (Deflate
has a checksum, which its decoder verifies.)

JPEG: ITU-T T.81, annex B. JPEG 2000: ITU-T T.800, annexes A and I.
"""

import re
import struct

from her2d.slides.errors import RefusedError

Sizes = frozenset[tuple[int, int]]

_MAX_SCANS = (
    100  # each scan of a progressive JPEG takes time: thousands would be a decompression bomb
)
_MAX_CODESTREAM_TILES = 1024

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded: baseline, extended, progressive
_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # DHT DQT DRI COM APPn
_NEXT_MARKER = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]", re.DOTALL)  # past stuffing and RSTn

_CODESTREAM_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_CODESTREAM_END = b"\xff\xd9"  # EOC
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"


def check_jpeg_tables(tables: bytes) -> None:
    """Check that JPEGTables (tag 347) hold tables and nothing else.

    Raises:
        RefusedError: they hold something else, or are not JPEG data.
    """
    if tables[:2] != b"\xff\xd8":
        raise RefusedError("has JPEG tables that are not JPEG data")
    at = 2
    while True:
        marker, at = _marker(tables, at)
        if marker == _EOI:
            return
        if marker not in _TABLES:
            raise RefusedError(f"has JPEG tables that contain a marker {marker:02X}")
        at += _segment_length(tables, at)


def check_jpeg(data: bytes, *, sizes: Sizes, samples: int) -> None:
    """Check that a JPEG is one complete 8-bit frame of an expected size.

    Args:
        data: from start to end marker; its tables may be elsewhere.
        sizes: acceptable (width, height) in pixels.
        samples: number of components that the frame must have.

    Raises:
        RefusedError: it is not. The error continues the sentence "block COLUMN,ROW ...".
    """
    if data[:2] != b"\xff\xd8":
        raise RefusedError("does not begin like a JPEG")
    at, frames, scans = 2, 0, 0
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        length = _segment_length(data, at)
        if marker in _FRAMES:
            frames += 1
            _check_frame(data[at : at + length], sizes, samples)
        elif marker == _SOS:
            scans += 1
        elif marker not in _TABLES:
            raise RefusedError(
                f"is corrupt, or a kind of JPEG that is not supported (marker {marker:02X})"
            )
        at += length
        if marker == _SOS:
            at = _end_of_scan(data, at)
        if frames > 1 or scans > _MAX_SCANS:
            raise RefusedError(f"is a JPEG of {frames} frames and {scans} scans")
    if not (frames and scans):
        raise RefusedError("is a JPEG without an image")


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at `at`, after any fill bytes, and where its segment begins."""
    while data[at : at + 2] == b"\xff\xff":
        at += 1
    if at + 2 > len(data):
        raise RefusedError("is a JPEG that is cut short")
    if data[at] != 0xFF:
        raise RefusedError("is a corrupt JPEG")
    return data[at + 1], at + 2


def _segment_length(data: bytes, at: int) -> int:
    if at + 2 > len(data):
        raise RefusedError("is a JPEG that is cut short")
    length: int = struct.unpack_from(">H", data, at)[0]
    if length < 2 or at + length > len(data):
        raise RefusedError("is a JPEG that is cut short")
    return length


def _check_frame(segment: bytes, sizes: Sizes, samples: int) -> None:
    if len(segment) < 8:
        raise RefusedError("is a corrupt JPEG")
    precision, height, width, components = struct.unpack_from(">BHHB", segment, 2)
    if precision != 8:
        raise RefusedError(f"is a JPEG of {precision} bits a sample")
    if components != samples:
        raise RefusedError(f"is a JPEG of {components} components instead of {samples}")
    _check_size((width, height), sizes, "JPEG")


def _check_size(size: tuple[int, int], sizes: Sizes, codec: str) -> None:
    if size not in sizes:
        wanted = " or ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise RefusedError(f"is a {codec} of {size[0]} x {size[1]} pixels instead of {wanted}")


def _end_of_scan(data: bytes, at: int) -> int:
    found = _NEXT_MARKER.search(data, at)
    if found is None:
        raise RefusedError("is a JPEG that is cut short")
    return found.start()


def check_jpeg2000(data: bytes, *, sizes: Sizes, samples: int, bits: int) -> None:
    """Check that a JPEG 2000 codestream, bare or in a JP2 file, has the expected shape.

    Args:
        data: the block.
        sizes: acceptable (width, height) in pixels.
        samples: number of components that it must have.
        bits: bits of each sample.

    Raises:
        RefusedError: it has not, or is cut short. The error continues the sentence
            "block COLUMN,ROW ...".
    """
    start, stop = _codestream(data)
    header = data[start + 4 : start + 42]
    if data[start : start + 4] != _CODESTREAM_START or len(header) < 38:
        raise RefusedError("does not begin like a JPEG 2000 codestream")
    if not data[start:stop].rstrip(b"\0").endswith(_CODESTREAM_END):
        raise RefusedError("is a JPEG 2000 image that is cut short")
    x1, y1, x0, y0, tile_w, tile_h, *_ = struct.unpack_from(">8I", header, 4)
    components = struct.unpack_from(">H", header, 36)[0]
    _check_size((x1 - x0, y1 - y0), sizes, "JPEG 2000 image")
    if tile_w == 0 or tile_h == 0 or -(-x1 // tile_w) * -(-y1 // tile_h) > _MAX_CODESTREAM_TILES:
        raise RefusedError("is a JPEG 2000 image of too many tiles")
    if components != samples:
        raise RefusedError(f"is a JPEG 2000 image of {components} components instead of {samples}")
    described = data[start + 42 : start + 42 + 3 * components]
    if described != bytes((bits - 1, 1, 1)) * components:
        raise RefusedError(
            f"is a JPEG 2000 image whose components are not all of {bits} bits and full size"
        )


def _codestream(data: bytes) -> tuple[int, int]:
    """Return start and end of the codestream: the whole block, or the jp2c box of a JP2 file."""
    if not data.startswith(_JP2_SIGNATURE):
        return 0, len(data)
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            length, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        if kind == b"jp2c":
            return at + header, at + length if length else len(data)
        if length < header:
            break
        at += length
    raise RefusedError("is a JP2 file without a codestream")
