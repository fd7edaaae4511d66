"""Compute a slide's HER2 status from its tiles: equation 1 and the decision.

Liao et al. 2025, section 4.6: P is the share of tumour pixels that lie in tiles of high HER2
expression; P >= 10 % is positive. The borderline flag and the indeterminate status are ours.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from her2d.method import THRESHOLD
from her2d.pipeline.interval import Interval, interval_meaning


class Her2Status(StrEnum):
    """The HER2 status of a slide."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


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


class Score(BaseModel):
    """A slide's result; its fields are columns of `runs` and of the view `slide_results`.

    Attributes:
        reason: why the status is indeterminate, None for a call.
        high_expression_percent: P of equation 1 in percent, None without tumour.
        ci_low, ci_high: interval of P in percent, None without tumour.
        ci_calibrated: whether the interval is calibrated on slides with a known share; None
            without an interval.
        borderline: whether the interval holds the threshold.
        threshold_percent: P in percent from which the bundle calls a slide positive.
    """

    model_config = ConfigDict(frozen=True)

    her2_status: Her2Status
    reason: str | None = None
    high_expression_percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_calibrated: bool | None = None
    borderline: bool = False
    threshold_percent: float = 100 * THRESHOLD
    tumor_pixels: int = 0
    strong_pixels: int = 0
    tiles_tumor: int = 0
    tiles_strong: int = 0

    @property
    def ci_meaning(self) -> str | None:
        """What the interval is an interval of, in one sentence; None without an interval."""
        return None if self.ci_calibrated is None else interval_meaning(self.ci_calibrated)


def high_expression_fraction(counts: TileCounts) -> Fraction:
    """Return P of equation 1, exactly.

    Raises:
        ValueError: there are no tumour tiles.
    """
    if counts.total == 0:
        raise ValueError("a slide without tumour has no share of strong tumour")
    return Fraction(counts.strong_total, counts.total)


def score_slide(
    counts: TileCounts,
    *,
    tiles_unreadable: int,
    unreadable_pixels: int,
    threshold: float = THRESHOLD,
    interval: Interval | None,
) -> Score:
    """Return the status of a slide, with P and its interval.

    Args:
        counts: its tumour tiles.
        tiles_unreadable: tiles that could not be read.
        unreadable_pixels: pixels of the scan in those tiles that may be tumour.
        threshold: P from which a slide is positive; taken as the decimal number it is written as,
            so that exactly 10 % is positive.
        interval: of P; None for a slide without tumour, or if only the call is needed.
    """
    limit = Fraction(str(threshold))
    if counts.total == 0:
        missing = (
            "No tumour was found in any tile."
            if tiles_unreadable == 0
            else f"No tumour was found, but {_tiles(tiles_unreadable)} could not be read."
        )
        return Score(
            her2_status=Her2Status.INDETERMINATE,
            reason=missing,
            threshold_percent=float(100 * limit),
        )
    p = high_expression_fraction(counts)
    status = Her2Status.POSITIVE if p >= limit else Her2Status.NEGATIVE
    reason: str | None = None
    if unread_could_change_call(counts, unreadable_pixels, threshold):
        status = Her2Status.INDETERMINATE
        reason = (
            f"{_tiles(tiles_unreadable)} could not be read: what is there could change the call."
        )
    return Score(
        her2_status=status,
        reason=reason,
        high_expression_percent=float(100 * p),
        ci_low=None if interval is None else 100 * interval.low,
        ci_high=None if interval is None else 100 * interval.high,
        ci_calibrated=None if interval is None else interval.calibrated,
        borderline=interval is not None and interval.low <= threshold <= interval.high,
        threshold_percent=float(100 * limit),
        tumor_pixels=counts.total,
        strong_pixels=counts.strong_total,
        tiles_tumor=len(counts.strong),
        tiles_strong=int(counts.strong.sum()),
    )


def unread_could_change_call(
    counts: TileCounts, unreadable_pixels: int, threshold: float = THRESHOLD
) -> bool:
    """Return whether unread pixels could put the slide on the other side of the threshold.

    They could, if the call differs between two cases: all of them are strong tumour, and all of
    them are weak tumour. Without any tumour tile that could be read, every status is possible.

    Args:
        counts: the slide's tumour tiles.
        unreadable_pixels: pixels of the scan that could not be read and may be tumour.
        threshold: P from which a slide is positive, as a decimal number.
    """
    if unreadable_pixels == 0:
        return False
    limit = Fraction(str(threshold))
    total = counts.total + unreadable_pixels
    least = Fraction(counts.strong_total, total)
    most = Fraction(counts.strong_total + unreadable_pixels, total)
    return (least >= limit) != (most >= limit)


def _tiles(number: int) -> str:
    return "1 tile" if number == 1 else f"{number} tiles"
