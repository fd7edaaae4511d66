"""Check and decode JPEG 2000 blocks: bare codestreams and JP2 files (ITU-T T.800, annexes A, I).

The codestream's header is checked before the decoder allocates memory for it. There is no
checksum: changed bits within the coded data may decode to wrong pixels.
"""

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

from her2d.slides.block_format import (
    BlockFormat,
    BlockSize,
    Decode,
    Samples,
    check_size,
    with_samples,
)
from her2d.slides.colour import YCBCR, ycbcr_to_rgb
from her2d.slides.errors import RefusedError

APERIO_YCBCR, APERIO_RGB = 33003, 33005
JPEG_2000 = frozenset({APERIO_YCBCR, APERIO_RGB, 34712})

_MAX_TILES = 1024
_CODESTREAM_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_CODESTREAM_END = b"\xff\xd9"  # EOC
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SYCC = b"\x01\x00\x00" + (18).to_bytes(4, "big")  # colr box: an enumerated space, sYCC
_COD, _SOT = 0xFF52, 0xFF90  # coding style; start of a tile's data
_SUBSAMPLED = (((1, 1), (2, 1), (2, 1)), ((1, 1), (2, 2), (2, 2)))  # 4:2:2 and 4:2:0


@dataclass(frozen=True, slots=True)
class _Codestream:
    """What the header of a codestream states.

    Attributes:
        bits: of each sample.
        subsampled: whether chroma has fewer samples than luma.
        transformed: whether the encoder was given RGB and made luma and chroma of it itself.
    """

    bits: int
    subsampled: bool
    transformed: bool


def jpeg2000_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image whose compression is one of JPEG_2000; it decodes to RGB.

    Aperio's 33003 is YCbCr and 33005 is RGB, and PhotometricInterpretation (tag 262) is ignored.
    Elsewhere YCbCr is believed unless the codestream says that its encoder was given RGB.
    """
    by_compression = {APERIO_YCBCR: True, APERIO_RGB: False}
    stated = by_compression.get(stored.compression, stored.photometric == YCBCR)
    ycbcr = stated and stored.samples == 3

    def decode(data: bytes, size: BlockSize) -> Samples:
        start, stop, is_sycc = _find_codestream(data)
        found = _check(data, start, stop, stored, size, may_be_subsampled=ycbcr or is_sycc)
        pixels = with_samples(np.asarray(imagecodecs.jpeg2k_decode(data)))
        if found.bits < stored.significant_bits:
            pixels = pixels << (stored.significant_bits - found.bits)
        if found.subsampled or is_sycc:
            return pixels  # the decoder has converted it
        given_rgb = found.transformed and stored.compression != APERIO_YCBCR
        return ycbcr_to_rgb(pixels) if ycbcr and not given_rgb else pixels

    return decode


def _check(
    data: bytes,
    start: int,
    stop: int,
    stored: BlockFormat,
    size: BlockSize,
    *,
    may_be_subsampled: bool,
) -> _Codestream:
    """Check that a codestream is complete and has the shape of its block; return its header.

    Raises:
        RefusedError: it is not, or has not. The error continues "block COLUMN,ROW ...".
    """
    header = data[start + 4 : start + 42]
    if data[start : start + 4] != _CODESTREAM_START or len(header) < 38:
        raise RefusedError("does not begin like a JPEG 2000 codestream")
    if not data[start:stop].rstrip(b"\0").endswith(_CODESTREAM_END):
        raise RefusedError("is a JPEG 2000 image that is cut short")
    x1, y1, x0, y0, tile_w, tile_h, *_ = struct.unpack_from(">8I", header, 4)
    components = struct.unpack_from(">H", header, 36)[0]
    check_size((x1 - x0, y1 - y0), size.accepted, "JPEG 2000 image")
    if tile_w == 0 or tile_h == 0 or -(-x1 // tile_w) * -(-y1 // tile_h) > _MAX_TILES:
        raise RefusedError("is a JPEG 2000 image of too many tiles")
    if components != stored.samples:
        raise RefusedError(
            f"is a JPEG 2000 image of {components} components instead of {stored.samples}"
        )
    described = data[start + 42 : start + 42 + 3 * components]
    precisions, steps = (
        set(described[::3]),
        tuple(zip(described[1::3], described[2::3], strict=False)),
    )
    bits = max(precisions, default=0) + 1
    whole = steps == ((1, 1),) * components
    subsampled = may_be_subsampled and bits == stored.bits == 8 and steps in _SUBSAMPLED
    # Cameras of 10 to 14 bits fill samples of 16 in part.
    enough = bits == stored.bits or (stored.bits == 16 and 8 < bits <= stored.significant_bits)
    if len(precisions) != 1 or not enough or not (whole or subsampled):
        raise RefusedError(
            f"is a JPEG 2000 image whose components are not all of {stored.bits} bits and full size"
        )
    return _Codestream(bits, subsampled, _is_transformed(data, start + 2, stop))


def _is_transformed(data: bytes, at: int, stop: int) -> bool:
    """Return whether the coding style in a codestream's header says that RGB was transformed."""
    while at + 9 <= stop:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _COD:
            return data[at + 8] == 1
        if marker == _SOT or length < 2:
            break
        at += 2 + length
    return False


def _find_codestream(data: bytes) -> tuple[int, int, bool]:
    """Return start and end of the codestream, and whether its file states that it is sYCC.

    The codestream is the whole block, or the jp2c box of a JP2 file.
    """
    if not data.startswith(_JP2_SIGNATURE):
        return 0, len(data), False
    at, is_sycc = 0, False
    while at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            length, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        if kind == b"jp2c":
            return at + header, at + length if length else len(data), is_sycc
        if length < header:
            break
        if kind == b"jp2h":
            is_sycc = b"colr" + _SYCC in data[at : at + length]
        at += length
    raise RefusedError("is a JP2 file without a codestream")
