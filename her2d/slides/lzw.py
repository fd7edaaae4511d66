"""LZW blocks, decoded by libtiff.

imagecodecs' own LZW decoder (2026.3.6) reads outside its memory on corrupt streams and takes the
process down; libtiff's, which imagecodecs carries too, tells what is wrong, and is faster. It
wants a TIFF file: each block is handed to it as one of a single strip.
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
    """Samples of one block: uint8 or uint16 of `shape` (height, width, samples).

    Args:
        data: the LZW stream (TIFF 6.0, section 13).
        bits: of a sample, 8 or 16.
        predictor: tag 317, 1 or 2.
        byteorder: "<" or ">", of 16-bit samples.

    Raises:
        imagecodecs.TiffError: the stream is corrupt or too short.
    """
    pixels = np.asarray(imagecodecs.tiff_decode(_file(data, shape, bits, predictor, byteorder)))
    return pixels.reshape(shape)


def _file(
    data: bytes, shape: tuple[int, int, int], bits: int, predictor: int, byteorder: str
) -> bytes:
    """A TIFF of one strip: header, bits per sample, the strip, and its directory at the end."""
    height, width, samples = shape
    depths = struct.pack(f"{byteorder}{_MAX_SAMPLES}H", *(bits,) * _MAX_SAMPLES)
    strip = _HEADER + len(depths)
    color = samples >= 3
    entries = [
        (256, _LONG, 1, width),
        (257, _LONG, 1, height),
        # Up to two of them are their own value; more lie after the header.
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
        entries.append((338, _SHORT, 1, 0))  # alpha is dealt with later, by those who know
    directory = struct.pack(byteorder + "H", len(entries))
    for tag, kind, count, value in entries:
        inline = "HH" if kind == _SHORT and count <= 2 else "I"
        values = (value, value if count == 2 else 0) if inline == "HH" else (value,)
        directory += struct.pack(byteorder + "HHI" + inline, tag, kind, count, *values)
    order = b"II" if byteorder == "<" else b"MM"
    header = order + struct.pack(byteorder + "HI", 42, strip + len(data))
    return header + depths + data + directory + bytes(4)
