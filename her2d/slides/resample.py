"""Average areas exactly, one block of the image at a time.

A grid pixel is the mean of the level's pixels that it covers, each weighted by the share covered.
The mean is separable and additive: each block contributes the part of a grid pixel that lies in
it, and the parts of all blocks add up to the same pixel for any block layout.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_BAND = 128  # grid pixels; larger temporaries leave the cache and need new pages
_KEPT_WEIGHTS = 1024  # of blocks' columns and rows, some 5 KiB each


@dataclass(frozen=True, eq=False)
class _Band:
    """The weights of a few grid pixels along one axis.

    Attributes:
        target: these grid pixels, from the first that the source pixels are part of.
        source: the source pixels that they are made from, from the block's start.
        matrix: float32 (target, source), sparse.
    """

    target: slice
    source: slice
    matrix: Any


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """The shares of source pixels [start, ...) in grid pixels [first, first + n), along one axis.

    Attributes:
        first: the first grid pixel that the source pixels are part of.
        share: float32 (n,), which part of each grid pixel they make up.
        bands: their weights.
    """

    first: int
    share: NDArray[np.float32]
    bands: tuple[_Band, ...]


def covered(start: int, stop: int, scale: float, length: int) -> tuple[int, int]:
    """Return the grid pixels [first, last) that source pixels [start, stop) are part of.

    Args:
        start, stop: source pixels.
        scale: source pixels per grid pixel.
        length: grid pixels along the axis.
    """
    return min(int(start // scale), length), min(int(-(-stop // scale)), length)


@lru_cache(_KEPT_WEIGHTS)
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
    weight = np.where(inside, share / scale, 0.0).astype(np.float32)
    bands = tuple(
        _band(slice(at, at + _BAND), (source - start).T, weight.T, inside.T)
        for at in range(0, last - first, _BAND)
    )
    return AxisWeights(first, weight.sum(axis=0), bands)


def _band(
    target: slice,
    source: NDArray[np.int64],
    weight: NDArray[np.float32],
    inside: NDArray[np.bool_],
) -> _Band:
    from scipy.sparse import csr_array  # only scans that are not at 4x need it

    some = inside[target]
    index = source[target][some]
    low, high = (int(index.min()), int(index.max()) + 1) if index.size else (0, 0)
    ends = np.concatenate(([0], np.cumsum(some.sum(axis=1))))
    matrix = csr_array((weight[target][some], index - low, ends), shape=(len(some), high - low))
    return _Band(target, slice(low, high), matrix)


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
    parts = np.empty((len(vertical.share), len(horizontal.share), 3), np.float32)
    for band in vertical.bands:
        columns = _transposed(_weighed(pixels, band))
        for across in horizontal.bands:
            parts[band.target, across.target] = _transposed(_weighed(columns, across))
    return parts


def _weighed(pixels: NDArray[Any], band: _Band) -> NDArray[np.float32]:
    """Return weighted sums along the first axis.

    The sparse product adds a grid pixel's source pixels one after the other, each multiplied by its
    weight, for whole rows.
    """
    some = pixels[band.source]
    # By rounding, a band's only grid pixel may have no source pixels.
    rows = some.reshape(len(some), math.prod(some.shape[1:])).astype(np.float32, copy=False)
    return np.asarray(band.matrix @ rows).reshape(-1, *pixels.shape[1:])


def _transposed(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Swap rows and columns into contiguous memory, ten times as fast as NumPy does it."""
    height, width, channels = pixels.shape
    return np.asarray(cv2.transpose(pixels), np.float32).reshape(width, height, channels)
