"""Compute a slide's HER2 status from its tiles: equation 1 and the decision.

Liao et al. 2025, section 4.6: P is the share of tumour pixels that lie in tiles of high HER2
expression; P >= 10 % is positive. The borderline flag and the indeterminate status are ours.
"""

from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from her2d.method import THRESHOLD, TILE_CUT, MethodName
from her2d.pipeline.evaluability import Obstacle, ReasonCode
from her2d.pipeline.interval import Interval, interval_meaning
from her2d.pipeline.tile_counts import TileCounts, high_expression_fraction

if TYPE_CHECKING:  # reading it takes longer than a list of results
    from her2d.bundle.site_calibration import IhcZone


class Her2Status(StrEnum):
    """The HER2 status of a slide."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


NO_INTERVAL = (
    "The probability has no interval, because its error is not known. Such a result is never marked"
    " as borderline."
)
"""What is said of a call by attention beside its probability."""


class Score(BaseModel):
    """A slide's result; its fields are columns of `runs` and of the view `slide_results`.

    A bundle of the method `mil` gives a probability, and nothing that rests on the classes of
    tiles: these fields are None.

    Attributes:
        method: how the bundle calls slides.
        reason_code, reason: why the status is indeterminate, as a code and as a sentence; None for
            a call.
        high_expression_percent: P of equation 1 in percent, None without a call.
        ci_low, ci_high: interval of P in percent, None without a call.
        ci_calibrated: whether the interval is calibrated on slides with a known share; None
            without an interval.
        borderline: whether the interval holds the threshold; never without an interval.
        threshold_percent: P in percent from which the bundle calls a slide positive; None by `mil`.
        tile_cut: the integrator's probability above which the bundle calls a tile strong; None by
            `mil`.
        positive_probability: the probability that the slide is HER2-positive, by `mil`; None
            without a call.
        probability_threshold: the probability from which the bundle calls a slide positive; None by
            `her2net`.
        send_to_ihc: whether the laboratory's calibration of the bundle sends the slide to IHC; None
            without a calibration.
        tumor_pixels, tiles_tumor: tumour, in pixels and in tiles.
        strong_pixels, tiles_strong: the same of strong tiles; None by `mil`.
    """

    model_config = ConfigDict(frozen=True)

    method: MethodName = MethodName.HER2NET
    her2_status: Her2Status
    reason_code: ReasonCode | None = None
    reason: str | None = None
    high_expression_percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_calibrated: bool | None = None
    borderline: bool = False
    threshold_percent: float | None = 100 * THRESHOLD
    tile_cut: float | None = TILE_CUT
    positive_probability: float | None = None
    probability_threshold: float | None = None
    send_to_ihc: bool | None = None
    tumor_pixels: int = 0
    strong_pixels: int | None = 0
    tiles_tumor: int = 0
    tiles_strong: int | None = 0

    @property
    def ci_meaning(self) -> str | None:
        """What the interval is an interval of, in one sentence, or that a call has none.

        None without a call.
        """
        if self.positive_probability is not None:
            return NO_INTERVAL
        return None if self.ci_calibrated is None else interval_meaning(self.ci_calibrated)

    @property
    def ihc_advice(self) -> str | None:
        """Why the slide should be sent to IHC, in one sentence; None unless it should."""
        if not self.send_to_ihc:
            return None
        if self.her2_status is Her2Status.INDETERMINATE:
            return "Send to IHC: the slide has no call."
        return (
            "Send to IHC: by this laboratory's calibration, a negative call with this share of"
            " HER2-high tumour is not certain enough."
        )


def score_slide(
    counts: TileCounts,
    *,
    obstacle: Obstacle | None,
    threshold: float = THRESHOLD,
    tile_cut: float = TILE_CUT,
    interval: Interval | None,
) -> Score:
    """Return the status of a slide, with P and its interval.

    A slide with an obstacle has no P: next to "indeterminate" it would be read as a call.

    Args:
        counts: its tumour tiles.
        obstacle: why it cannot be called, from `find_obstacle`; None if it can be.
        threshold: P from which a slide is positive; taken as the decimal number it is written as,
            so that exactly 10 % is positive.
        tile_cut: the cut by which `counts` has strong tiles.
        interval: of P; None for a slide without tumour, or if only the call is needed.

    Raises:
        ValueError: there is neither tumour nor an obstacle.
    """
    limit = Fraction(str(threshold))
    counted = Score(
        her2_status=Her2Status.INDETERMINATE,
        threshold_percent=float(100 * limit),
        tile_cut=tile_cut,
        tumor_pixels=counts.total,
        strong_pixels=counts.strong_total,
        tiles_tumor=len(counts.strong),
        tiles_strong=int(counts.strong.sum()),
    )
    if obstacle is not None:
        return counted.model_copy(
            update={"reason_code": obstacle.code, "reason": obstacle.sentence}
        )
    p = high_expression_fraction(counts)
    called = {
        "her2_status": Her2Status.POSITIVE if p >= limit else Her2Status.NEGATIVE,
        "high_expression_percent": float(100 * p),
    }
    if interval is not None:
        called |= {
            "ci_low": 100 * interval.low,
            "ci_high": 100 * interval.high,
            "ci_calibrated": interval.calibrated,
            "borderline": interval.low <= threshold <= interval.high,
        }
    return counted.model_copy(update=called)


def score_bag(
    p_positive: float | None,
    *,
    obstacle: Obstacle | None,
    threshold: float,
    tiles: int,
    tumor_pixels: int,
) -> Score:
    """Return the status of a slide that attention called as a whole.

    Args:
        p_positive: the probability that it is HER2-positive; None for a slide with an obstacle.
        obstacle: why it cannot be called, from `find_bag_obstacle`; None if it can be.
        threshold: the probability from which a slide is positive.
        tiles, tumor_pixels: its tumour.

    Raises:
        ValueError: there is neither a probability nor an obstacle.
    """
    scored = Score(
        method=MethodName.MIL,
        her2_status=Her2Status.INDETERMINATE,
        threshold_percent=None,
        tile_cut=None,
        probability_threshold=threshold,
        tumor_pixels=tumor_pixels,
        strong_pixels=None,
        tiles_tumor=tiles,
        tiles_strong=None,
    )
    if obstacle is not None:
        return scored.model_copy(update={"reason_code": obstacle.code, "reason": obstacle.sentence})
    if p_positive is None:
        raise ValueError("a slide without an obstacle needs a probability")
    called = Her2Status.POSITIVE if p_positive >= threshold else Her2Status.NEGATIVE
    return scored.model_copy(update={"her2_status": called, "positive_probability": p_positive})


def with_ihc_zone(score: Score, zone: "IhcZone | None") -> Score:
    """Return the score with whether the slide is sent to IHC, by the laboratory's calibration.

    A slide without a call is always sent; one that is called positive never is.
    """
    if zone is None:
        return score
    percent = score.high_expression_percent
    match score.her2_status:
        case Her2Status.INDETERMINATE:
            sent = True
        case Her2Status.POSITIVE:
            sent = False
        case Her2Status.NEGATIVE:
            sent = percent is not None and zone.holds(percent)
    return score.model_copy(update={"send_to_ihc": sent})
