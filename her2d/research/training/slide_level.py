"""Equation 1 on labelled tiles: the unbiased tile cut, and what an integrator means for slides.

The paper calls a tile strong by the integrator's class (section 4.5), which is a cut of 0.5. Where
strong tiles are rare and the five sub-classifiers overlap, such a cut calls more or fewer tiles
strong than there are, and P of equation 1 counts them. The cut chosen here calls about as much
tumour strong as is strong.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from her2d.method import THRESHOLD, TILE_CUT

# Sums of a slide's shares in another order differ by less.
_ROUNDING = 1e-9
# A mean error of P of one percentage point.
_UNBIASED = 0.01


@dataclass(frozen=True)
class SlideTiles:
    """Labelled tumour tiles of several slides.

    Attributes:
        slide: The tile's slide, str (T,).
        tumor_pixels: Number of tumour pixels in the tile, int64 (T,), each over 0.
        strong: Whether the tile has high expression, bool (T,).
    """

    slide: NDArray[np.str_]
    tumor_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]

    @cached_property
    def number(self) -> NDArray[np.int64]:
        """Number of each tile's slide in the order of the slides' names, int64 (T,)."""
        return np.unique(self.slide, return_inverse=True)[1].astype(np.int64)


class SlideLevel(BaseModel):
    """What calls of labelled tiles mean for their slides, by equation 1 and the 10 % threshold.

    The truth is equation 1 with the true class of each tile. Errors are in percentage points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slides: int
    slides_positive: int
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    bias: float | None
    """Mean difference of P from the truth; over 0 if more tumour is called strong than is."""
    mean_absolute_error: float | None


def slide_fractions(tiles: SlideTiles, strong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute P of equation 1 of each slide.

    Args:
        tiles: Tiles of S slides.
        strong: Whether each tile is called strong, bool (T,).

    Returns:
        P between 0 and 1, float64 (S,), in the order of the slides' names.
    """
    called = np.where(strong, tiles.tumor_pixels, 0)
    found = np.bincount(tiles.number, called) / np.bincount(tiles.number, tiles.tumor_pixels)
    return np.asarray(found, np.float64)


def unbiased_cut(p: NDArray[np.float64], tiles: SlideTiles) -> float:
    """Choose the tile cut by which P of equation 1 is not biased.

    Of the cuts by which the mean P of the slides is within one percentage point of the true mean,
    the one by which P errs least is chosen, by the mean absolute error. Without such a cut, as with
    the few values of a shallow tree, least bias decides.

    Args:
        p: The integrator's p(strong) of each tile, float64 (T,). It must not have learned from
            them.
        tiles: The tiles.

    Returns:
        The probability above which a tile is strong.
    """
    values = np.unique(p)
    if len(values) < 2:
        return TILE_CUT
    low, high = values[:-1], values[1:]
    cuts = np.where((low <= TILE_CUT) & (high > TILE_CUT), TILE_CUT, (low + high) / 2)
    bias = _biases(p, values, tiles)
    near = np.flatnonzero(np.abs(bias) <= max(_UNBIASED, np.abs(bias).min() + _ROUNDING))
    true = slide_fractions(tiles, tiles.strong)
    errors = [np.abs(slide_fractions(tiles, p > cut) - true).mean() for cut in cuts[near]]
    # Errors that differ by rounding only are equal, and 0.5 wins wherever it is as good.
    order = np.lexsort((np.abs(cuts[near] - TILE_CUT), np.round(errors, 9)))
    return float(cuts[near][order[0]])


def _biases(
    p: NDArray[np.float64], values: NDArray[np.float64], tiles: SlideTiles
) -> NDArray[np.float64]:
    """Compute the mean error of P, -1 to 1, for a cut between each two neighbouring values of p."""
    share = tiles.tumor_pixels / np.bincount(tiles.number, tiles.tumor_pixels)[tiles.number]
    of_value = np.bincount(np.searchsorted(values, p), share, minlength=len(values))
    called = of_value[::-1].cumsum()[::-1][1:]
    return np.asarray((called - share[tiles.strong].sum()) / (tiles.number.max() + 1))


def slide_level(strong: NDArray[np.bool_], tiles: SlideTiles) -> SlideLevel:
    """Measure calls of tiles by what they mean for slides.

    Args:
        strong: Whether each tile is called strong, bool (T,).
        tiles: The tiles with their true class.
    """
    if not len(strong):
        return SlideLevel(
            slides=0,
            slides_positive=0,
            accuracy=None,
            sensitivity=None,
            specificity=None,
            bias=None,
            mean_absolute_error=None,
        )
    found, true = slide_fractions(tiles, strong), slide_fractions(tiles, tiles.strong)
    called, positive = found >= THRESHOLD, true >= THRESHOLD
    right = called == positive
    return SlideLevel(
        slides=len(true),
        slides_positive=int(positive.sum()),
        accuracy=_mean(right),
        sensitivity=_mean(right[positive]),
        specificity=_mean(right[~positive]),
        bias=_mean(100 * (found - true)),
        mean_absolute_error=_mean(100 * np.abs(found - true)),
    )


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(np.mean(values)) if len(values) else None
