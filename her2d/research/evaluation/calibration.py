"""Calibration of probabilities by reliability bins, Brier score and expected calibration error.

This analysis is not in the paper. The expected calibration error is that of Naeini et al. 2015
(AAAI), with bins of equal width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bin:
    """Tiles whose probability lies in one interval.

    Attributes:
        predicted: Mean probability.
        observed: Share of positive tiles.
        tiles: Number of tiles.
    """

    predicted: float
    observed: float
    tiles: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of a set of probabilities.

    Attributes:
        bins: The bins that are not empty.
        brier: Brier score; NaN without tiles.
        expected_error: Expected calibration error; NaN without tiles.
    """

    bins: tuple[Bin, ...]
    brier: float
    expected_error: float


def calibration(
    p: NDArray[np.floating], positive: NDArray[np.bool_], *, bins: int = 10
) -> Calibration:
    """Measure how well probabilities agree with the true classes.

    Args:
        p: Probability of the positive class, 0 to 1, float (T,).
        positive: True class, bool (T,).
        bins: Number of bins of equal width.

    Raises:
        ValueError: A probability is outside 0 to 1, or the arrays differ in length.
    """
    if p.shape != positive.shape:
        raise ValueError("p and positive must have the same length")
    if not len(p):
        return Calibration((), float("nan"), float("nan"))
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in 0..1")
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    predicted = np.bincount(which, p, bins) / np.maximum(count, 1)
    observed = np.bincount(which, positive, bins) / np.maximum(count, 1)
    error = float((count * np.abs(predicted - observed)).sum() / len(p))
    return Calibration(
        tuple(
            Bin(float(predicted[b]), float(observed[b]), int(count[b]))
            for b in np.flatnonzero(count)
        ),
        float(np.mean((p - positive) ** 2)),
        error,
    )
