"""How often the interval of P holds the annotated share, with a binomial interval."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from her2d.calibration.proportion import CONFIDENCE
from her2d.research.evaluation.rows import Interval, Row

_BANDS = ((0.0, 0.05), (0.05, 0.20), (0.20, 1.0))


class CoverageRow(Row):
    """Coverage of a test set, or of its slides whose annotated share is in one band.

    Attributes:
        set: Name of the test set.
        band: The annotated shares, such as `5 to 20 %`, or `all`.
        slides: Slides with a call and a known annotated share.
        covered: Those whose interval holds it.
        share: Covered slides of all, with Clopper and Pearson's exact interval.
        prevalence: Share of HER2-positive slides that the intervals are for, on the row of all
            slides; None if it is that of the calibration slides.
        standardized: Share of covered slides where so many are positive.
    """

    set: str
    band: str
    slides: int
    covered: int
    share: Interval
    prevalence: float | None = None
    standardized: Interval | None = None


def coverage_rows(
    set_name: str,
    annotated: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    *,
    positive: NDArray[np.bool_],
    prevalence: float | None = None,
) -> tuple[CoverageRow, ...]:
    """Count covered slides, of all and by how large the annotated share is.

    An interval that holds 95 % of all slides may hold fewer of those near the threshold.

    Args:
        set_name: Name of the test set.
        annotated: Annotated shares, 0 to 1, float64 (S,); NaN if not known.
        low, high: Limits of the intervals of P, float64 (S,).
        positive: True HER2 status, bool (S,).
        prevalence: Share of HER2-positive slides that the intervals are for; None if it is that of
            the calibration slides.
    """
    known = ~np.isnan(annotated)
    truth = annotated[known]
    covered = (low[known] <= truth) & (truth <= high[known])
    rows = [_row(set_name, "all", covered)]
    if prevalence is not None:
        standard = standardized(covered, positive[known], prevalence)
        rows[0] = rows[0].model_copy(update={"prevalence": prevalence, "standardized": standard})
    for least, most in _BANDS:
        in_band = (truth >= least) & ((truth < most) | (most == 1))
        rows.append(_row(set_name, f"{100 * least:g} to {100 * most:g} %", covered[in_band]))
    return tuple(row for row in rows if row.slides)


def exact_interval(found: int, of: int) -> Interval:
    """Return a share with Clopper and Pearson's 95 % interval; nothing is known of 0 slides."""
    if not of:
        return Interval(value=None, low=None, high=None)
    limits = binomtest(found, of).proportion_ci(CONFIDENCE, method="exact")
    return Interval(value=found / of, low=float(limits.low), high=float(limits.high))


def standardized(
    covered: NDArray[np.bool_], positive: NDArray[np.bool_], prevalence: float
) -> Interval:
    """Return the share of covered slides of a population with another share of positive ones.

    The limits of the shares of positive and of negative slides are combined by the method of
    variance estimates recovery (Zou and Donner 2008).

    Args:
        covered: Whether each slide's interval holds its annotated share, bool (S,).
        positive: True HER2 status, bool (S,).
        prevalence: The population's share of positive slides, 0 to 1.
    """
    value = below = above = 0.0
    for weight, alike in ((prevalence, positive), (1 - prevalence, ~positive)):
        found = exact_interval(int(covered[alike].sum()), int(alike.sum()))
        if found.value is None or found.low is None or found.high is None:
            return found
        value += weight * found.value
        below += (weight * (found.value - found.low)) ** 2
        above += (weight * (found.high - found.value)) ** 2
    return Interval(
        value=value, low=max(value - below**0.5, 0.0), high=min(value + above**0.5, 1.0)
    )


def _row(set_name: str, band: str, covered: NDArray[np.bool_]) -> CoverageRow:
    found, of = int(covered.sum()), len(covered)
    return CoverageRow(
        set=set_name, band=band, slides=of, covered=found, share=exact_interval(found, of)
    )
