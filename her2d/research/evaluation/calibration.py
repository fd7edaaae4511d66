"""Whether a probability means what it says: reliability, Brier score, expected error.

Not in the paper. Expected calibration error as in Naeini et al. 2015 (AAAI), equal-width bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bin:
    """Tiles whose probability fell in one interval: mean probability, share strong, how many."""

    predicted: float
    observed: float
    tiles: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability of T probabilities; empty bins are left out. NaN figures without tiles."""

    bins: tuple[Bin, ...]
    brier: float
    expected_error: float


def calibration(
    p: NDArray[np.floating], happened: NDArray[np.bool_], *, bins: int = 10
) -> Calibration:
    """Compare probabilities (T,) in 0..1 with what happened, bool (T,).

    Raises:
        ValueError: a probability lies outside 0..1, or the arrays differ in length.
    """
    if p.shape != happened.shape:
        raise ValueError("p and happened must be equally long")
    if not len(p):
        return Calibration((), float("nan"), float("nan"))
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability lies in 0..1")
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    predicted = np.bincount(which, p, bins) / np.maximum(count, 1)
    observed = np.bincount(which, happened, bins) / np.maximum(count, 1)
    error = float((count * np.abs(predicted - observed)).sum() / len(p))
    return Calibration(
        tuple(
            Bin(float(predicted[b]), float(observed[b]), int(count[b]))
            for b in np.flatnonzero(count)
        ),
        float(np.mean((p - happened) ** 2)),
        error,
    )
