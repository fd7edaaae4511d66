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
        matrix: float32 or uint16 (target, source), sparse.
    """

    target: slice
    source: slice
    matrix: Any


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """The shares of source pixels [start, ...) in grid pixels [first, first + n), along one axis.

    Attributes:
        first: the first grid pixel that the source pixels are part of.
        share: float32 or uint16 (n,), which part of each grid pixel they make up.
        bands: their weights.
    """

    first: int
    share: NDArray[Any]
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
    first, source, share = _shares(start, stop, scale, length)
    return _weights(first, source - start, (share / scale).astype(np.float32))


@lru_cache(_KEPT_WEIGHTS)
def whole_weights(start: int, stop: int, scale: float, length: int) -> AxisWeights:
    """Return the same weights as whole numbers, uint16, instead of shares of 1.

    They are in the unit in which all are whole: of 2.5 source pixels, 2, 2 and 1 fifths.

    Args:
        start, stop, length: as for `axis_weights`.
        scale: a ratio of whole numbers with a power of two below, such as 2.5.
    """
    first, source, share = _shares(start, stop, scale, length)
    return _weights(first, source - start, (share * scale.as_integer_ratio()[1]).astype(np.uint16))


def _shares(
    start: int, stop: int, scale: float, length: int
) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    """Return how much of each source pixel lies in each grid pixel.

    Returns:
        The first grid pixel that they are part of; source pixels (taps, n), of which some are
        outside; and which share of each belongs to the grid pixel, 0 where none does.
    """
    first, last = covered(start, stop, scale, length)
    left = np.arange(first, last) * scale
    taps = int(np.ceil(scale)) + 1
    source = np.maximum(np.floor(left).astype(np.int64), start) + np.arange(taps)[:, None]
    share = np.minimum(source + 1, left + scale) - np.maximum(source, left)
    return first, source, np.where((share > 0) & (source < stop), share, 0.0)


def _weights(first: int, source: NDArray[np.int64], weight: NDArray[Any]) -> AxisWeights:
    bands = tuple(
        _band(slice(at, at + _BAND), source.T, weight.T) for at in range(0, weight.shape[1], _BAND)
    )
    return AxisWeights(first, weight.sum(axis=0, dtype=weight.dtype), bands)


def _band(target: slice, source: NDArray[np.int64], weight: NDArray[Any]) -> _Band:
    from scipy.sparse import csr_array  # only scans that are not at 4x need it

    some = weight[target] > 0
    index = source[target][some]
    low, high = (int(index.min()), int(index.max()) + 1) if index.size else (0, 0)
    ends = np.concatenate(([0], np.cumsum(some.sum(axis=1))))
    matrix = csr_array((weight[target][some], index - low, ends), shape=(len(some), high - low))
    return _Band(target, slice(low, high), matrix)


def area_parts(
    pixels: NDArray[np.uint8], vertical: AxisWeights, horizontal: AxisWeights
) -> NDArray[Any]:
    """Return what a block contributes to the grid pixels that it covers.

    Args:
        pixels: the block, uint8 (height, width, 3).
        vertical, horizontal: its weights along both axes, from `axis_weights` or `whole_weights`.

    Returns:
        (rows, columns, 3), for grid pixels from (vertical.first, horizontal.first) on: float32, 0
        to 255, or uint16 in the product of both axes' units.
    """
    dtype = vertical.share.dtype
    parts = np.empty((len(vertical.share), len(horizontal.share), 3), dtype)
    for band in vertical.bands:
        columns = _transposed(_weighed(pixels, band))
        for across in horizontal.bands:
            parts[band.target, across.target] = _transposed(_weighed(columns, across))
    return parts


def _weighed(pixels: NDArray[Any], band: _Band) -> NDArray[Any]:
    """Return weighted sums along the first axis.

    The sparse product adds a grid pixel's source pixels one after the other, each multiplied by its
    weight, for whole rows.
    """
    some = pixels[band.source]
    # By rounding, a band's only grid pixel may have no source pixels.
    rows = some.reshape(len(some), math.prod(some.shape[1:]))
    return np.asarray(band.matrix @ rows.astype(band.matrix.dtype, copy=False)).reshape(
        -1, *pixels.shape[1:]
    )


def _transposed(pixels: NDArray[Any]) -> NDArray[Any]:
    """Swap rows and columns into contiguous memory, ten times as fast as NumPy does it."""
    height, width, channels = pixels.shape
    return np.asarray(cv2.transpose(pixels)).reshape(width, height, channels)
