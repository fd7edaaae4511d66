"""The tumour tiles of a slide, counted for equation 1 (Liao et al. 2025, section 4.6)."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TileCounts:
    """The tumour tiles of one slide.

    Attributes:
        tumor_pixels: int64 (T,), each over 0.
        strong: bool (T,), the integrator's class.

    Raises:
        ValueError: the arrays differ in shape, or a tile has no tumour pixels.
    """

    tumor_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.tumor_pixels.shape != self.strong.shape or self.tumor_pixels.ndim != 1:
            raise ValueError("tumor_pixels and strong must be one-dimensional and equally long")
        if (self.tumor_pixels <= 0).any():
            raise ValueError("a tumour tile has at least one tumour pixel")

    @property
    def total(self) -> int:
        return int(self.tumor_pixels.sum())

    @property
    def strong_total(self) -> int:
        return int(self.tumor_pixels[self.strong].sum())


def high_expression_fraction(counts: TileCounts) -> Fraction:
    """Return P of equation 1, exactly.

    Raises:
        ValueError: there are no tumour tiles.
    """
    if counts.total == 0:
        raise ValueError("a slide without tumour has no share of strong tumour")
    return Fraction(counts.strong_total, counts.total)
