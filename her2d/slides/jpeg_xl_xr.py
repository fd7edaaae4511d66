"""Check JPEG XL and JPEG XR blocks (ISO/IEC 18181-1, ITU-T T.832); a child process decodes them."""

import struct

import numpy as np

from her2d.slides.block_format import (
    BlockFormat,
    BlockSize,
    Decode,
    Samples,
    check_samples,
    check_size,
    picture_bytes,
)
from her2d.slides.errors import RefusedError
from her2d.slides.isolated import IsolatedDecoder

JPEG_XL = frozenset({50002, 52546})
JPEG_XR = frozenset({22610, 34934})

_XL_CODESTREAM = b"\xff\x0a"
_XL_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_XL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_XL_SIDE_BITS = (9, 13, 18, 30)
_XL_HEADER = 64  # bytes that hold the fields that are read

_XR_START = b"II\xbc\x01"
_XR_WIDTH, _XR_HEIGHT, _XR_OFFSET, _XR_LENGTH = 0xBC80, 0xBC81, 0xBCC0, 0xBCC1
_XR_MAX_TAGS = 64
_XR_CODESTREAM = b"WMPHOTO\0"
_XR_SAMPLES = {0: 1, 7: 3}  # by output colour format: grey, RGB
_XR_BITS = {1: 8, 2: 16}  # by output bit depth


def jpeg_xl_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image whose compression is one of JPEG_XL."""
    decoder = IsolatedDecoder("jpegxl")

    def decode(data: bytes, size: BlockSize) -> Samples:
        data = picture_bytes(data, stored, (_XL_CODESTREAM, _XL_CONTAINER))
        _check_xl(data, stored, size)
        return decoder.decode(data, _most_bytes(stored, size))

    return decode


def jpeg_xr_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image whose compression is one of JPEG_XR."""
    decoder = IsolatedDecoder("jpegxr")

    def decode(data: bytes, size: BlockSize) -> Samples:
        data = picture_bytes(data, stored, (_XR_START,))
        _check_xr(data, stored, size)
        return decoder.decode(data, _most_bytes(stored, size))

    return decode


def _most_bytes(stored: BlockFormat, size: BlockSize) -> int:
    return size.width * size.height * stored.samples * stored.bits // 8


class _Bits:
    """Read a JPEG XL header, whose fields begin at the lowest bit of each byte."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, bits: int) -> int:
        value = self._value & ((1 << bits) - 1)
        self._value >>= bits
        return value

    def side(self) -> int:
        return self.take(_XL_SIDE_BITS[self.take(2)]) + 1


def _check_xl(data: bytes, stored: BlockFormat, size: BlockSize) -> None:
    start = _find_xl_codestream(data)
    if data[start : start + 2] != _XL_CODESTREAM:
        raise RefusedError("does not begin like a JPEG XL codestream")
    bits = _Bits(data[start + 2 : start + _XL_HEADER])
    in_eights = bits.take(1)
    height = 8 * (bits.take(5) + 1) if in_eights else bits.side()
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _XL_RATIOS[ratio - 1]
        width = height * numerator // denominator
    else:
        width = 8 * (bits.take(5) + 1) if in_eights else bits.side()
    check_size((width, height), size.accepted, "JPEG XL image")
    depth, extra = _xl_depth(bits)
    if depth != stored.bits or extra != (stored.samples in (2, 4)):
        raise RefusedError(
            f"is a JPEG XL image of {depth} bits and {extra} extra samples, unlike its tags"
        )


def _xl_depth(bits: _Bits) -> tuple[int, int]:
    """Return the bits of a sample and the number of samples beside the colours."""
    if bits.take(1):  # everything has its default
        return 8, 0
    if bits.take(1):
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(3):
            raise RefusedError("is a JPEG XL image with a preview, an animation or a second size")
    if bits.take(1):
        raise RefusedError("is a JPEG XL image with floating-point samples")
    choice = bits.take(2)
    depth = bits.take(6) + 1 if choice == 3 else (8, 10, 12)[choice]
    bits.take(1)  # whether 16 bits are enough to compute with
    choice = bits.take(2)
    extra = (0, 1)[choice] if choice < 2 else bits.take(4) + 2
    return depth, extra


def _find_xl_codestream(data: bytes) -> int:
    """Return where the codestream begins: at the block's start, or in a box of a container."""
    if not data.startswith(_XL_CONTAINER):
        return 0
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"jxlc":
            return at + 8
        if kind == b"jxlp":  # a part, after its number
            return at + 12
        if length < 8:
            break
        at += length
    raise RefusedError("is a JPEG XL file without a codestream")


def _check_xr(data: bytes, stored: BlockFormat, size: BlockSize) -> None:
    if not data.startswith(_XR_START) or len(data) < 8:
        raise RefusedError("does not begin like a JPEG XR file")
    tags = _xr_tags(data)
    stated = (tags.get(_XR_WIDTH, 0), tags.get(_XR_HEIGHT, 0))
    start = tags.get(_XR_OFFSET, len(data))
    header = data[start : start + 20]
    if len(header) < 20 or not header.startswith(_XR_CODESTREAM):
        raise RefusedError("is a JPEG XR file without a codestream")
    if start + tags.get(_XR_LENGTH, 0) > len(data):
        raise RefusedError("is a JPEG XR file that is cut short")
    is_short, kinds = header[10] >> 7, header[11]
    less_one = struct.unpack_from(">HH" if is_short else ">II", header, 12)
    coded = (less_one[0] + 1, less_one[1] + 1)
    check_size(stated, size.accepted, "JPEG XR image")
    check_size(coded, frozenset({stated}), "JPEG XR image")
    found = _XR_SAMPLES.get(kinds >> 4, 0), _XR_BITS.get(kinds & 15, 0)
    check_samples(found, stored, "JPEG XR image")


def _xr_tags(data: bytes) -> dict[int, int]:
    """Return the numbers in the file's directory by tag."""
    (at,) = struct.unpack_from("<I", data, 4)
    if at + 2 > len(data):
        raise RefusedError("is a JPEG XR file that is cut short")
    (count,) = struct.unpack_from("<H", data, at)
    if count > _XR_MAX_TAGS or at + 2 + 12 * count > len(data):
        raise RefusedError("is a JPEG XR file that is cut short")
    entries = np.frombuffer(data, "<u2,<u2,<u4,<u4", count, at + 2)
    return {int(tag): int(value) for tag, _, _, value in entries}
