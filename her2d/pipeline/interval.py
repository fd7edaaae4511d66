"""The interval of P: what it is made of and what it means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of P.

    Attributes:
        low, high: shares, 0 to 1.
        calibrated: whether slides with a known share were measured to lie in such intervals.
    """

    low: float
    high: float
    calibrated: bool


def interval_meaning(calibrated: bool) -> str:
    """Return one sentence that says what an interval of P is an interval of."""
    if calibrated:
        return (
            "Calibrated: for 95 of 100 slides of the population that the bundle is calibrated for,"
            " the annotated share of HER2-high tumour lies in this interval."
        )
    return (
        "Not calibrated: the interval shows how much P depends on which tissue the slide happens to"
        " hold, and not how often the networks are wrong."
    )


@dataclass(frozen=True, slots=True)
class TumorTiles:
    """The tumour tiles of one slide, and what the networks found in them.

    Attributes:
        row, column: int64 (T,), place in the slide's grid.
        tumor_pixels: int64 (T,), each over 0.
        strong: bool (T,), the integrator's class.
        p_strong: float32 (T,), the integrator's probability.
        p_folds: float32 (T, 5), each fold's probability.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    tumor_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]
    p_strong: NDArray[np.floating]
    p_folds: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.tumor_pixels)

    @property
    def share(self) -> float:
        """P of equation 1; NaN without tiles."""
        total = int(self.tumor_pixels.sum())
        return int(self.tumor_pixels[self.strong].sum()) / total if total else float("nan")
