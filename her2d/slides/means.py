"""The arithmetic of area averages: in whole numbers where that is exact, else in float32.

A grid pixel at 2.5 level pixels is made of fifths of these, so its mean is a whole number of
twenty-fifths. Whole numbers of 16 bits take half the time and memory of float32, and the rounded
means are the same: where a pixel is divided into an odd number of parts along each axis, no mean
lies half way between two grey values, and float32 errs by less than a thousandth of one; where it
is divided into a power of two, float32 does not err.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from her2d.slides.resample import AxisWeights, axis_weights, whole_weights

# 255 x 9 x 9 fits into 16 bits, and scans that are reduced by 10 or more may be decoded at half
# size, in other parts.
_MOST_PARTS = 9


class Means(Protocol):
    """How the shares of level pixels in grid pixels are added and rounded."""

    @property
    def dtype(self) -> DTypeLike:
        """Of weights and sums."""
        ...

    def weights(self, start: int, stop: int, scale: float, length: int) -> AxisWeights:
        """Return weights along one axis; see `axis_weights`."""
        ...

    def rounded(self, sums: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the means that sums stand for, halves rounded up. It may change `sums`."""
        ...


class FloatMeans:
    """Sums in float32, for any scale."""

    dtype: DTypeLike = np.float32

    def weights(self, start: int, stop: int, scale: float, length: int) -> AxisWeights:
        """Return weights that add up to 1."""
        return axis_weights(start, stop, scale, length)

    def rounded(self, sums: NDArray[Any]) -> NDArray[np.uint8]:
        """Round sums, float32."""
        sums += np.float32(0.5)
        # Weights sum to 1 within 1e-6, so no value reaches 256.
        return sums.astype(np.uint8)


@dataclass(frozen=True)
class WholeMeans:
    """Sums of whole numbers.

    Attributes:
        parts: that a grid pixel is divided into along each axis.
    """

    parts: int
    dtype: DTypeLike = np.uint16

    def weights(self, start: int, stop: int, scale: float, length: int) -> AxisWeights:
        """Return weights that add up to `parts`."""
        return whole_weights(start, stop, scale, length)

    def rounded(self, sums: NDArray[Any]) -> NDArray[np.uint8]:
        """Divide sums, uint16, and round them."""
        whole = np.uint16(self.parts * self.parts)
        sums += whole // 2
        sums //= whole
        return sums.astype(np.uint8)


def means_at(scale_x: float, scale_y: float) -> Means:
    """Return the arithmetic for a scale.

    Args:
        scale_x, scale_y: level pixels per grid pixel.
    """
    parts, _ = scale_x.as_integer_ratio()
    is_exact = parts % 2 == 1 or parts.bit_count() == 1
    if scale_x == scale_y >= 1 and is_exact and parts <= _MOST_PARTS:
        return WholeMeans(parts)
    return FloatMeans()
