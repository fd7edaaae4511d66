"""Check and decode blocks that are pictures in WebP, PNG or LERC.

What a picture states about its size and samples is compared with the image's tags before its
decoder allocates memory for it.
"""

import struct
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from her2d.slides.block_format import (
    BlockFormat,
    BlockSize,
    Decode,
    Samples,
    check_samples,
    check_size,
    picture_bytes,
    with_samples,
)
from her2d.slides.errors import RefusedError

LERC, PNG, WEBP = 34887, 34933, 50001

_CUT_SHORT = "is a {} that is cut short"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette
_WEBP_HAS_ALPHA, _WEBP_IS_ANIMATED = 0x10, 0x02
_LERC_VERSIONS = range(4, 7)  # 4 is what libtiff writes; all have a checksum
_LERC_BITS = {1: 8, 3: 16}  # by data type


def picture_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image whose compression is one of PICTURE_CODECS."""
    starts, decode_checked = PICTURE_CODECS[stored.compression]

    def decode(data: bytes, size: BlockSize) -> Samples:
        return with_samples(decode_checked(picture_bytes(data, stored, starts), stored, size))

    return decode


def _webp(data: bytes, stored: BlockFormat, size: BlockSize) -> NDArray[Any]:
    chunk = data[12:16]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        raise RefusedError("does not begin like a WebP")
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise RefusedError(_CUT_SHORT.format("WebP"))
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif chunk == b"VP8L" and data[20] == 0x2F:
        packed = struct.unpack_from("<I", data, 21)[0]
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8X" and not data[20] & _WEBP_IS_ANIMATED:
        # The decoder refuses a picture of another size than this, its canvas.
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        raise RefusedError("is a kind of WebP that is not supported")
    check_size((width, height), size.accepted, "WebP")
    check_samples((3 if stored.samples == 3 else 4, 8), stored, "WebP")
    pixels: NDArray[Any] = imagecodecs.webp_decode(data, hasalpha=stored.samples == 4)
    return pixels


def _png(data: bytes, stored: BlockFormat, size: BlockSize) -> NDArray[Any]:
    if not data.startswith(_PNG_START) or data[12:16] != b"IHDR" or len(data) < 33:
        raise RefusedError("does not begin like a PNG")
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    check_size((width, height), size.accepted, "PNG")
    check_samples((_PNG_SAMPLES.get(color_type, 0), bits), stored, "PNG")
    pixels: NDArray[Any] = imagecodecs.png_decode(data)
    return pixels


def _lerc(data: bytes, stored: BlockFormat, size: BlockSize) -> NDArray[Any]:
    if not data.startswith(b"Lerc2 ") or len(data) < 42:
        data = _inflated(data, stored, size)
    if not data.startswith(b"Lerc2 ") or len(data) < 42:
        raise RefusedError("does not begin like LERC")
    version, _, rows, columns, samples, valid, _, length, kind = struct.unpack_from(
        "<iI7i", data, 6
    )
    if version not in _LERC_VERSIONS:
        raise RefusedError(f"is LERC of version {version}, which is not supported")
    if length > len(data):
        raise RefusedError(_CUT_SHORT.format("LERC image"))
    check_size((columns, rows), size.accepted, "LERC image")
    check_samples((samples, _LERC_BITS.get(kind, 0)), stored, "LERC image")
    if valid != rows * columns:
        raise RefusedError("is a LERC image in which pixels have no value")
    pixels: NDArray[Any] = imagecodecs.lerc_decode(data[:length])
    return pixels


def _inflated(data: bytes, stored: BlockFormat, size: BlockSize) -> bytes:
    """Return LERC data that was compressed once more (LercParameters, tag 50674)."""
    most = 2 * size.width * size.height * stored.samples * stored.bits // 8 + 2**16
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return bytes(imagecodecs.zstd_decode(data, out=most))
    return bytes(imagecodecs.deflate_decode(data, out=most))


DecodeChecked = Callable[[bytes, BlockFormat, BlockSize], NDArray[Any]]

PICTURE_CODECS: MappingProxyType[int, tuple[tuple[bytes, ...], DecodeChecked]] = MappingProxyType(
    {
        WEBP: ((b"RIFF",), _webp),
        PNG: ((_PNG_START,), _png),
        LERC: ((b"Lerc2 ", b"\x28\xb5\x2f\xfd", b"\x78"), _lerc),
    }
)
"""How the bytes of each may begin, and its decoder."""
