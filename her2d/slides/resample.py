"""Average areas exactly, one block of the image at a time.

A grid pixel is the mean of the level's pixels that it covers, each weighted by the share covered.
The mean is separable and additive: each block contributes the part of a grid pixel that lies in
it, and the parts of all blocks add up to the same pixel for any block layout.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = (
    32  # larger temporaries leave the cache and need new pages, which cost more than sums
)


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """The shares of source pixels [start, ...) in grid pixels [first, first + n), along one axis.

    Attributes:
        first: the first grid pixel that the source pixels are part of.
        index: int64 (taps, n), source pixels relative to the block's start.
        weight: float32 (taps, n), shares of a grid pixel; 0 where a tap adds nothing.
    """

    first: int
    index: NDArray[np.int64]
    weight: NDArray[np.float32]


def covered(start: int, stop: int, scale: float, length: int) -> tuple[int, int]:
    """Return the grid pixels [first, last) that source pixels [start, stop) are part of.

    Args:
        start, stop: source pixels.
        scale: source pixels per grid pixel.
        length: grid pixels along the axis.
    """
    return min(int(start // scale), length), min(int(-(-stop // scale)), length)


def axis_weights(start: int, stop: int, scale: float, length: int) -> AxisWeights:
    """Return the weights of source pixels [start, stop) in the grid pixels they are part of.

    Args:
        start, stop: source pixels.
        scale: source pixels per grid pixel.
        length: grid pixels along the axis.
    """
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
    """Return what a block contributes to the grid pixels that it covers.

    Args:
        pixels: the block, uint8 (height, width, 3).
        vertical, horizontal: its weights along both axes, from `axis_weights`.

    Returns:
        float32 (rows, columns, 3), 0 to 255, for grid pixels from (vertical.first,
        horizontal.first) on.
    """
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
    """Return weighted sums along the first axis, computed for whole rows."""
    rows = pixels.reshape(len(pixels), -1)
    total = np.zeros((index.shape[1], rows.shape[1]), np.float32)
    for tap_index, tap_weight in zip(index, weight, strict=True):
        tap = rows[tap_index].astype(np.float32, copy=False)
        tap *= tap_weight[:, None]
        total += tap
    return total.reshape(-1, *pixels.shape[1:])


def _transposed(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Swap rows and columns into contiguous memory, ten times as fast as NumPy does it."""
    height, width, channels = pixels.shape
    return np.asarray(cv2.transpose(pixels), np.float32).reshape(width, height, channels)
