"""Decode LZW blocks with libtiff.

The LZW decoder of imagecodecs (2026.3.6) reads outside its memory on corrupt data and crashes the
process. libtiff's decoder, which imagecodecs includes too, reports an error, and is faster. It
reads TIFF files only, so each block is passed to it as a TIFF file of a single strip.
"""

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_SHORT, _LONG = 3, 4
_HEADER = 8
_MAX_SAMPLES = 4


def decode_lzw(
    data: bytes, *, shape: tuple[int, int, int], bits: int, predictor: int, byteorder: str
) -> NDArray[Any]:
    """Decode one block.

    Args:
        data: the block's LZW data (TIFF 6.0, section 13).
        shape: height, width and samples per pixel.
        bits: bits of a sample, 8 or 16.
        predictor: tag 317, 1 (none) or 2 (horizontal differences).
        byteorder: of 16-bit samples, "<" (little-endian) or ">" (big-endian).

    Returns:
        uint8 or uint16 of `shape`.

    Raises:
        imagecodecs.TiffError: the data is corrupt or too short.
    """
    pixels = np.asarray(imagecodecs.tiff_decode(_file(data, shape, bits, predictor, byteorder)))
    return pixels.reshape(shape)


def _file(
    data: bytes, shape: tuple[int, int, int], bits: int, predictor: int, byteorder: str
) -> bytes:
    """Return a TIFF file of one strip: header, bits per sample, the strip, then its directory."""
    height, width, samples = shape
    depths = struct.pack(f"{byteorder}{_MAX_SAMPLES}H", *(bits,) * _MAX_SAMPLES)
    strip = _HEADER + len(depths)
    color = samples >= 3
    entries = [
        (256, _LONG, 1, width),
        (257, _LONG, 1, height),
        # Up to two values fit into the entry; more lie after the header.
        (258, _SHORT, samples, _HEADER if samples > 2 else bits),
        (259, _SHORT, 1, 5),
        (262, _SHORT, 1, 2 if color else 1),
        (273, _LONG, 1, strip),
        (277, _SHORT, 1, samples),
        (278, _LONG, 1, height),
        (279, _LONG, 1, len(data)),
        (317, _SHORT, 1, predictor),
    ]
    if samples in (2, 4):
        entries.append((338, _SHORT, 1, 0))  # of no stated meaning; colour.py handles alpha
    directory = struct.pack(byteorder + "H", len(entries))
    for tag, kind, count, value in entries:
        inline = "HH" if kind == _SHORT and count <= 2 else "I"
        values = (value, value if count == 2 else 0) if inline == "HH" else (value,)
        directory += struct.pack(byteorder + "HHI" + inline, tag, kind, count, *values)
    order = b"II" if byteorder == "<" else b"MM"
    header = order + struct.pack(byteorder + "HI", 42, strip + len(data))
    return header + depths + data + directory + bytes(4)
