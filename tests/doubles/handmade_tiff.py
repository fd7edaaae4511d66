"""Write TIFF files tag by tag, so that they can say what no library would write."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BYTE, ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7
_FORMATS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", UNDEFINED: "B"}

Tag = tuple[int, Sequence[int] | bytes]  # its type and values

FOUR_X = "Motic V1.0.0\n{w}x{h} [0,0 {w}x{h}] [512x512] JPEG/RGB Q = 75|AppMag = 4|MPP = 2.5"


def cut(picture: NDArray[np.generic], width: int, height: int) -> list[NDArray[np.generic]]:
    """Return a picture's tiles row by row; the last ones repeat its edge."""
    down, across = -picture.shape[0] % height, -picture.shape[1] % width
    padded = np.pad(picture, ((0, down), (0, across), (0, 0)), mode="edge")
    return [
        np.ascontiguousarray(padded[y : y + height, x : x + width])
        for y in range(0, padded.shape[0], height)
        for x in range(0, padded.shape[1], width)
    ]


def write_image(
    path: Path,
    size: tuple[int, int],
    blocks: Sequence[bytes],
    tags: Mapping[int, Tag],
    *,
    listed_under: tuple[int, int] = (324, 325),
    description: str = FOUR_X,
) -> Path:
    """Write a little-endian TIFF of one image.

    Args:
        path: where.
        size: width and height in pixels (tags 256 and 257).
        blocks: the encoded blocks, in the order of the file.
        tags: further tags; they replace those that this function writes.
        listed_under: the tags that list the blocks' offsets and sizes.
        description: ImageDescription; {w} and {h} are the size.
    """
    width, height = size
    data = bytearray(b"II*\0" + bytes(4))
    offsets = []
    for block in blocks:
        offsets.append(len(data))
        data += block + b"\0" * (len(block) % 2)
    text = description.format(w=width, h=height).encode() + b"\0"
    everything: dict[int, Tag] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8, 8, 8]),
        270: (ASCII, text),
        277: (SHORT, [3]),
        listed_under[0]: (LONG, offsets),
        listed_under[1]: (LONG, [len(block) for block in blocks]),
        **tags,
    }
    entries = []
    for tag in sorted(everything):
        kind, values = everything[tag]
        raw = values if isinstance(values, bytes) else _packed(kind, values)
        if len(raw) > 4:
            at = len(data)
            data += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack("<I", at)
        count = len(values)
        entries.append(struct.pack("<HHI", tag, kind, count) + raw.ljust(4, b"\0"))
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(data)
    return path


def _packed(kind: int, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
