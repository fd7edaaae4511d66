"""How many IHC tests are saved if slides with a low P are not tested. Pure functions.

P serves as a test before IHC: slides under a rule-out threshold are taken as negative, all others,
those without a call among them, are tested by IHC. The threshold is chosen on slides that were kept
apart from training, and never on a test set.

A negative predictive value depends on how many slides are positive. If the recipe states the share
of positive slides in the population, because the slides at hand were chosen to have more, the
threshold is chosen for that population.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import NOT_DEFINED, Estimate, proportion
from her2d.research.evaluation.called_slides import INDETERMINATE, Prediction, with_status
from her2d.research.evaluation.coverage import standardized
from her2d.research.evaluation.rows import Interval, Number, Row
from her2d.research.training.cohort import Status

LOWEST_NPV = 0.97
"""The negative predictive value that a rule-out threshold must have where it is chosen."""


@dataclass(frozen=True, slots=True)
class HeldOutCalls:
    """P of S slides that no model learned from.

    Attributes:
        share: P of equation 1, float64 (S,), 0 to 1.
        positive: True HER2 status, bool (S,).
        patient: The slide's patient, str (S,).
    """

    share: NDArray[np.float64]
    positive: NDArray[np.bool_]
    patient: NDArray[np.str_]


class StandardizedYield(Row):
    """What a rule-out threshold does where another share of the slides is positive.

    Attributes:
        saved: Share of the slides that are not tested.
        npv: Negative predictive value of those that are not tested.
    """

    saved: Interval
    npv: Interval


class RuleOut(Row):
    """The rule-out threshold, and what it does on the slides that it was chosen on.

    Attributes:
        threshold_percent: Slides under this P are not tested; None if no threshold was chosen.
        slides, patients, positive: The slides that it was chosen on.
        saved: Share of these slides that are not tested.
        npv: Their negative predictive value.
        note: How it was chosen, or why there is none, in one sentence.
        prevalence: Share of positive slides in the population that the threshold is for; None if it
            is that of these slides.
        standardized: Both figures where so many slides are positive.
    """

    threshold_percent: Number
    slides: int
    patients: int
    positive: int
    saved: Interval
    npv: Interval
    note: str
    prevalence: float | None = None
    standardized: StandardizedYield | None = None


class ReflexRow(Row):
    """What the rule-out threshold saves on a test set.

    Attributes:
        set: Name of the test set.
        slides: Slides with a true status.
        not_tested: Slides under the threshold.
        missed: Positive ones among them.
        saved: Share of the slides that are not tested.
        npv: Negative predictive value of those that are not tested.
        found: Share of the positive slides that are tested.
        standardized: What it saves where as many slides are positive as in the population that the
            threshold is for; None if no such share is stated.
    """

    set: str
    slides: int
    not_tested: int
    missed: int
    saved: Interval
    npv: Interval
    found: Interval
    standardized: StandardizedYield | None = None


def choose_rule_out(
    held_out: HeldOutCalls, call_threshold: float, *, prevalence: float | None = None
) -> RuleOut:
    """Choose the highest threshold under which at least 97 % of slides are negative.

    It is never above the threshold of a positive call.

    Args:
        held_out: Slides that no model learned from, with a call.
        call_threshold: P from which the bundle calls a slide positive.
        prevalence: Share of positive slides in the population that the 97 % are for; None takes
            that of the slides.
    """
    share, positive, patient = held_out.share, held_out.positive, held_out.patient
    if not positive.any() or positive.all():
        return _without_threshold(
            held_out,
            "No rule-out threshold was chosen: that needs positive and negative slides that were"
            " kept apart from training.",
            prevalence,
        )
    values = np.unique(share[share < call_threshold])
    between = (values[:-1] + values[1:]) / 2
    for threshold in [call_threshold, *between[::-1].tolist()]:
        under = share < threshold
        npv = _npv(under, positive, patient, prevalence)
        if npv.value >= LOWEST_NPV:
            return RuleOut(
                threshold_percent=100 * threshold,
                slides=len(share),
                patients=len(np.unique(patient)),
                positive=int(positive.sum()),
                saved=Interval.of(proportion(under, patient)),
                npv=Interval.of(_npv(under, positive, patient, None)),
                note=_note(npv, prevalence),
                prevalence=prevalence,
                standardized=_standardized(under, positive, patient, prevalence),
            )
    return _without_threshold(
        held_out,
        "No rule-out threshold was chosen: under none of them at least"
        f" {100 * LOWEST_NPV:g} % of the slides that were kept apart from training are"
        f" negative{_weighted(prevalence)}.",
        prevalence,
    )


def standardized_npv(
    under: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    patient: NDArray[np.str_],
    prevalence: float,
) -> Estimate:
    """Estimate the negative predictive value where another share of the slides is positive.

    By Bayes' rule from the shares of positive and of negative slides that are not tested. Wilson's
    limits of the two are combined to those of their ratio by the method of variance estimates
    recovery (Donner and Zou 2012).

    Args:
        under: Whether each slide is not tested, bool (S,).
        positive: True status, bool (S,).
        patient: The slide's patient, str (S,).
        prevalence: The population's share of positive slides, above 0 and below 1.

    Returns:
        NaN if no slide is under the threshold, or one status has no slides.
    """
    if not under.any() or not positive.any() or positive.all():
        return NOT_DEFINED
    odds = prevalence / (1 - prevalence)
    missed, right = (proportion(under[of], patient[of]) for of in (positive, ~positive))
    low, high = _ratio_limits(missed, right)
    return Estimate(
        right.value / (right.value + odds * missed.value),
        1 / (1 + odds * high),
        1 / (1 + odds * low),
    )


def _ratio_limits(one: Estimate, other: Estimate) -> tuple[float, float]:
    """Return the limits of one share in parts of another; infinite if the other may be 0."""
    product = one.value * other.value

    def part(share: Estimate, limit: float) -> float:
        return limit * (2 * share.value - limit)

    least, most = part(one, one.low), part(other, other.low)
    to_low = math.sqrt(max(product**2 - least * part(other, other.high), 0.0))
    to_high = math.sqrt(max(product**2 - most * part(one, one.high), 0.0))
    return (
        least / (product + to_low) if least else 0.0,
        (product + to_high) / most if most else math.inf,
    )


def reflex_row(set_name: str, slides: Sequence[Prediction], rule: RuleOut) -> ReflexRow | None:
    """Measure the rule-out threshold on the slides of a test set that have a true status.

    Args:
        set_name: Name of the test set.
        slides: Predictions of its slides.
        rule: The threshold.

    Returns:
        None without a threshold, or without such slides.
    """
    known = with_status(slides)
    if rule.threshold_percent is None or not known:
        return None
    threshold = rule.threshold_percent
    under = np.array(
        [
            each.predicted != INDETERMINATE
            and each.percent is not None
            and each.percent < threshold
            for each in known
        ]
    )
    positive = np.array([each.true_status == Status.POSITIVE for each in known])
    patient = np.array([each.patient for each in known])
    return ReflexRow(
        set=set_name,
        slides=len(known),
        not_tested=int(under.sum()),
        missed=int((under & positive).sum()),
        saved=Interval.of(proportion(under, patient)),
        npv=Interval.of(_npv(under, positive, patient, None)),
        found=Interval.of(proportion(~under[positive], patient[positive])),
        standardized=_standardized(under, positive, patient, rule.prevalence),
    )


def _npv(
    under: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    patient: NDArray[np.str_],
    prevalence: float | None,
) -> Estimate:
    if prevalence is not None:
        return standardized_npv(under, positive, patient, prevalence)
    return proportion(~positive[under], patient[under])


def _standardized(
    under: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    patient: NDArray[np.str_],
    prevalence: float | None,
) -> StandardizedYield | None:
    if prevalence is None:
        return None
    return StandardizedYield(
        saved=standardized(under, positive, prevalence),
        npv=Interval.of(standardized_npv(under, positive, patient, prevalence)),
    )


def _weighted(prevalence: float | None) -> str:
    return (
        ""
        if prevalence is None
        else f", weighted to a population of which {100 * prevalence:.3g} % are HER2-positive"
    )


def _note(npv: Estimate, prevalence: float | None) -> str:
    chosen = (
        f"The highest threshold with a negative predictive value of at least {LOWEST_NPV:g} on"
        f" slides that were kept apart from training{_weighted(prevalence)}."
    )
    if npv.low >= LOWEST_NPV:
        return chosen
    return (
        f"{chosen} The lower limit of its interval is {npv.low:.3f}: the slides are too few to show"
        " that it holds for others."
    )


def _without_threshold(held_out: HeldOutCalls, note: str, prevalence: float | None) -> RuleOut:
    none = Interval(value=None, low=None, high=None)
    return RuleOut(
        threshold_percent=None,
        slides=len(held_out.share),
        patients=len(np.unique(held_out.patient)),
        positive=int(held_out.positive.sum()),
        saved=none,
        npv=none,
        note=note,
        prevalence=prevalence,
    )
