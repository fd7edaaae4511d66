"""Compare P with the annotated share, and the calls from it with the HER2 status. Pure functions.

P counts whole tiles, and a tile is strong if half of its tumour is (paper, section 4.4). The
annotated share by tile has that rule too; the share by area does not, and is what IHC is read by.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import proportion
from her2d.research.evaluation.rows import Interval, Number, Row

# Bland and Altman 1986: 95 % of normal differences.
_LIMITS = 1.96
THRESHOLDS = (1, 2, 3, 5, 7, 10, 12, 15, 20, 25, 30, 40, 50)
"""Percent, at which a sweep of the threshold is made."""


@dataclass(frozen=True, slots=True)
class ValidatedSlides:
    """S test slides with a call.

    Attributes:
        patient: The slide's patient, str (S,).
        positive: True HER2 status, bool (S,).
        share: P of equation 1, float64 (S,), 0 to 1.
        low, high: Interval of P, float64 (S,).
        by_tile, by_area: Annotated share, float64 (S,); NaN if it is not known.
    """

    patient: NDArray[np.str_]
    positive: NDArray[np.bool_]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    by_tile: NDArray[np.float64]
    by_area: NDArray[np.float64]


class Agreement(Row):
    """P compared with an annotated share; differences are in percentage points.

    Attributes:
        slides: Number of slides whose annotated share is known.
        bias: Mean of P minus the annotated share.
        mean_absolute_error: Mean of its absolute value.
        limits_low, limits_high: Bland and Altman's limits of agreement.
        covered: Share of slides whose interval holds the annotated share.
        same_status: Share of slides that are on the same side of the threshold by both.
    """

    slides: int
    bias: Number
    mean_absolute_error: Number
    limits_low: Number
    limits_high: Number
    covered: Interval
    same_status: Interval


class TileRule(Row):
    """What the rule that half of a tile's tumour decides does to the annotated share.

    Attributes:
        slides: Number of slides whose annotated shares are known.
        bias: Mean of the share by tile minus that by area, percentage points.
        other_status: Number of slides that are on another side of the threshold by tile.
    """

    slides: int
    bias: Number
    other_status: int


class RiskPoint(Row):
    """One point of the risk-coverage curve.

    Attributes:
        called: Share of slides that are called if the most doubtful ones are not.
        wrong: Share of those that are called wrong.
    """

    called: float
    wrong: float


class Deferral(Row):
    """What remains if slides that are borderline are not called.

    Attributes:
        borderline: Share of slides that are borderline.
        wrong_of_others: Share of the others that are called wrong.
        wrong_found: Share of wrong calls that are borderline.
    """

    borderline: Interval
    wrong_of_others: Interval
    wrong_found: Interval


class SweepPoint(Row):
    """Metrics of slides at one threshold of P, in percent."""

    threshold_percent: float
    sensitivity: Interval
    specificity: Interval
    negative_predictive_value: Interval


def agreement(
    slides: ValidatedSlides, annotated: NDArray[np.float64], threshold: float
) -> Agreement:
    """Compare P with an annotated share.

    Args:
        slides: The slides.
        annotated: Their annotated share, `by_tile` or `by_area`.
        threshold: P from which a slide is positive.
    """
    known = ~np.isnan(annotated)
    truth, share, patient = annotated[known], slides.share[known], slides.patient[known]
    error = 100 * (share - truth)
    bias = _mean(error)
    spread = _LIMITS * float(error.std(ddof=1)) if len(error) > 1 else math.nan
    return Agreement(
        slides=int(known.sum()),
        bias=bias,
        mean_absolute_error=_mean(np.abs(error)),
        limits_low=bias - spread,
        limits_high=bias + spread,
        covered=_interval((slides.low[known] <= truth) & (truth <= slides.high[known]), patient),
        same_status=_interval((share >= threshold) == (truth >= threshold), patient),
    )


def tile_rule(slides: ValidatedSlides, threshold: float) -> TileRule:
    """Compare the annotated share by tile with that by area."""
    known = ~np.isnan(slides.by_tile) & ~np.isnan(slides.by_area)
    by_tile, by_area = slides.by_tile[known], slides.by_area[known]
    return TileRule(
        slides=int(known.sum()),
        bias=_mean(100 * (by_tile - by_area)),
        other_status=int(((by_tile >= threshold) != (by_area >= threshold)).sum()),
    )


def risk_coverage(slides: ValidatedSlides, threshold: float) -> tuple[RiskPoint, ...]:
    """Leave out slides from the most doubtful on, and measure how many of the others are wrong.

    The doubt is how large a part of the interval lies beyond the threshold's distance from P.
    """
    if not len(slides.share):
        return ()
    half = np.where(
        slides.share >= threshold, slides.share - slides.low, slides.high - slides.share
    )
    doubt = half / np.maximum(np.abs(slides.share - threshold), 1e-9)
    order = np.argsort(doubt, kind="stable")
    wrong = ((slides.share >= threshold) != slides.positive)[order]
    count = np.arange(1, len(wrong) + 1)
    return tuple(
        RiskPoint(called=float(called), wrong=float(risk))
        for called, risk in zip(count / len(wrong), wrong.cumsum() / count, strict=True)
    )


def deferral(slides: ValidatedSlides, threshold: float) -> Deferral:
    """Measure what borderline slides are worth."""
    borderline = (slides.low <= threshold) & (threshold <= slides.high)
    wrong = (slides.share >= threshold) != slides.positive
    return Deferral(
        borderline=_interval(borderline, slides.patient),
        wrong_of_others=_interval(wrong[~borderline], slides.patient[~borderline]),
        wrong_found=_interval(borderline[wrong], slides.patient[wrong]),
    )


def sweep(slides: ValidatedSlides) -> tuple[SweepPoint, ...]:
    """Measure sensitivity, specificity and negative predictive value from 1 to 50 %."""
    points = []
    for percent in THRESHOLDS:
        called = slides.share >= percent / 100
        positive, patient = slides.positive, slides.patient
        points.append(
            SweepPoint(
                threshold_percent=percent,
                sensitivity=_interval(called[positive], patient[positive]),
                specificity=_interval(~called[~positive], patient[~positive]),
                negative_predictive_value=_interval(~positive[~called], patient[~called]),
            )
        )
    return tuple(points)


def _interval(found: NDArray[np.bool_], patient: NDArray[np.str_]) -> Interval:
    return Interval.of(proportion(found, patient))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
