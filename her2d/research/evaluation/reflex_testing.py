"""How many IHC tests are saved if slides with a low P are not tested. Pure functions.

P serves as a test before IHC: slides under a rule-out threshold are taken as negative, all others,
those without a call among them, are tested by IHC. The threshold is chosen on slides that were kept
apart from training, and never on a test set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import proportion
from her2d.research.evaluation.called_slides import INDETERMINATE, Prediction, with_status
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


class RuleOut(Row):
    """The rule-out threshold, and what it does on the slides that it was chosen on.

    Attributes:
        threshold_percent: Slides under this P are not tested; None if no threshold was chosen.
        slides, patients, positive: The slides that it was chosen on.
        saved: Share of these slides that are not tested.
        npv: Their negative predictive value.
        note: How it was chosen, or why there is none, in one sentence.
    """

    threshold_percent: Number
    slides: int
    patients: int
    positive: int
    saved: Interval
    npv: Interval
    note: str


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
    """

    set: str
    slides: int
    not_tested: int
    missed: int
    saved: Interval
    npv: Interval
    found: Interval


def choose_rule_out(held_out: HeldOutCalls, call_threshold: float) -> RuleOut:
    """Choose the highest threshold under which at least 97 % of slides are negative.

    It is never above the threshold of a positive call.

    Args:
        held_out: Slides that no model learned from, with a call.
        call_threshold: P from which the bundle calls a slide positive.
    """
    share, positive, patient = held_out.share, held_out.positive, held_out.patient
    if not positive.any() or positive.all():
        return _without_threshold(
            held_out,
            "No rule-out threshold was chosen: that needs positive and negative slides that were"
            " kept apart from training.",
        )
    values = np.unique(share[share < call_threshold])
    between = (values[:-1] + values[1:]) / 2
    for threshold in [call_threshold, *between[::-1].tolist()]:
        under = share < threshold
        if under.any() and (~positive[under]).mean() >= LOWEST_NPV:
            npv = Interval.of(proportion(~positive[under], patient[under]))
            return RuleOut(
                threshold_percent=100 * threshold,
                slides=len(share),
                patients=len(np.unique(patient)),
                positive=int(positive.sum()),
                saved=Interval.of(proportion(under, patient)),
                npv=npv,
                note=_note(npv),
            )
    return _without_threshold(
        held_out,
        "No rule-out threshold was chosen: under none of them at least"
        f" {100 * LOWEST_NPV:g} % of the slides that were kept apart from training are negative.",
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
        npv=Interval.of(proportion(~positive[under], patient[under])),
        found=Interval.of(proportion(~under[positive], patient[positive])),
    )


def _note(npv: Interval) -> str:
    chosen = (
        f"The highest threshold with a negative predictive value of at least {LOWEST_NPV:g} on"
        " slides that were kept apart from training."
    )
    if npv.low is None or npv.low >= LOWEST_NPV:
        return chosen
    return (
        f"{chosen} The lower limit of its interval is {npv.low:.3f}: the slides are too few to show"
        " that it holds for others."
    )


def _without_threshold(held_out: HeldOutCalls, note: str) -> RuleOut:
    none = Interval(value=None, low=None, high=None)
    return RuleOut(
        threshold_percent=None,
        slides=len(held_out.share),
        patients=len(np.unique(held_out.patient)),
        positive=int(held_out.positive.sum()),
        saved=none,
        npv=none,
        note=note,
    )
