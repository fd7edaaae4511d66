"""Exact area averaging, one block of the image at a time.

A grid pixel is the mean of the level's pixels it covers, each weighted by the share covered.
The mean is separable and additive: a block yields the part of each grid pixel that lies in it,
and the parts of all blocks add up to the whole, whatever the block layout.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 32  # temporaries stay in cache, and off mmap: page faults cost more than sums


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """How source pixels [start, ...) of one axis make up grid pixels [first, first + n).

    Attributes:
        first: the first grid pixel touched.
        index: int64 (taps, n), source pixels relative to the block's start.
        weight: float32 (taps, n), shares of a grid pixel; 0 where there is nothing to add.
    """

    first: int
    index: NDArray[np.int64]
    weight: NDArray[np.float32]


def covered(start: int, stop: int, scale: float, length: int) -> tuple[int, int]:
    """The grid pixels [first, last) of `length` that source pixels [start, stop) have a part in.

    Args:
        scale: source pixels per grid pixel.
    """
    return min(int(start // scale), length), min(int(-(-stop // scale)), length)


def axis_weights(start: int, stop: int, scale: float, length: int) -> AxisWeights:
    """The weights of source pixels [start, stop) in the grid pixels they cover."""
    first, last = covered(start, stop, scale, length)
    left = np.arange(first, last) * scale
    taps = int(np.ceil(scale)) + 1
    source = np.maximum(np.floor(left).astype(np.int64), start) + np.arange(taps)[:, None]
    share = np.minimum(source + 1, left + scale) - np.maximum(source, left)
    inside = (share > 0) & (source < stop)
    return AxisWeights(
        first=first,
        index=np.where(inside, source - start, 0),
        weight=np.where(inside, share / scale, 0.0).astype(np.float32),
    )


def area_parts(
    pixels: NDArray[np.uint8], vertical: AxisWeights, horizontal: AxisWeights
) -> NDArray[np.float32]:
    """A block's part of the grid pixels it covers: float32 (rows, columns, 3)."""
    parts = np.empty((vertical.index.shape[1], horizontal.index.shape[1], 3), np.float32)
    for first in range(0, len(parts), _ROWS_AT_ONCE):
        some = slice(first, first + _ROWS_AT_ONCE)
        rows = _weigh(pixels, vertical.index[:, some], vertical.weight[:, some])
        columns = _weigh(_transposed(rows), horizontal.index, horizontal.weight)
        parts[some] = _transposed(columns)
    return parts


def _weigh(
    pixels: NDArray[Any], index: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted sums along the first axis, whole rows at a time."""
    rows = pixels.reshape(len(pixels), -1)
    total = np.zeros((index.shape[1], rows.shape[1]), np.float32)
    for tap_index, tap_weight in zip(index, weight, strict=True):
        tap = rows[tap_index].astype(np.float32, copy=False)
        tap *= tap_weight[:, None]
        total += tap
    return total.reshape(-1, *pixels.shape[1:])


def _transposed(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows for columns, contiguous; ten times as fast as NumPy's copy of swapped axes."""
    height, width, channels = pixels.shape
    return np.asarray(cv2.transpose(pixels), np.float32).reshape(width, height, channels)
