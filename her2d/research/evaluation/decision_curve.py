"""Net benefit of testing or treating by P (Vickers and Elkin 2006). Pure functions.

A decision curve needs a probability, and P is a share of tumour. Where slides were kept apart from
training, P is mapped to the probability of a positive status by a logistic regression on them,
which never sees a test set.

What acting is worth depends on how many slides are positive. If the recipe states the share of
positive slides in the population, slides are weighted by their status, as if so many were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from her2d.calibration.proportion import Z
from her2d.research.evaluation.called_slides import Prediction, called_arrays
from her2d.research.evaluation.reflex_testing import HeldOutCalls
from her2d.research.evaluation.rows import Number, Row
from her2d.research.evaluation.slides import SlidePredictions

PROBABILITIES = tuple(round(0.01 * percent, 2) for percent in (*range(1, 10), *range(10, 51, 5)))
"""Threshold probabilities: how sure of a positive status one must be to act."""
# P of 0 and of 1 have no logit; a tile in a thousand is the least that a slide tells.
_LEAST_SHARE = 0.001
# In each class, below which a regression means nothing.
_FEWEST = 5


class DecisionPoint(Row):
    """Net benefit at one threshold probability, in true positives for each slide.

    Attributes:
        threshold: The threshold probability.
        by_probability, low, high: Acting from that probability of a positive status on, with the
            95 % interval; None if P could not be mapped to probabilities.
        by_call: Acting on the bundle's positive calls.
        all: Acting on every slide. Acting on none has a net benefit of 0.
    """

    threshold: float
    by_probability: Number
    low: Number
    high: Number
    by_call: float
    all: float


class DecisionCurve(Row):
    """Decision curve of a test set.

    Attributes:
        set: Name of the test set.
        slides, positive: Slides with a call and a true status, and positive ones among them.
        points: The curve.
        note: Where the probabilities come from, in one sentence.
        prevalence: Share of positive slides in the population that the curve is for; None if it is
            that of these slides.
    """

    set: str
    slides: int
    positive: int
    points: tuple[DecisionPoint, ...]
    note: str
    prevalence: float | None = None


@dataclass(frozen=True, slots=True)
class StatusProbability:
    """Probability of a positive status by P, a logistic function of the logit of P."""

    intercept: float
    slope: float
    slides: int

    def of(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each share, float64 (S,)."""
        return np.asarray(expit(self.intercept + self.slope * _logits(share)))


def fit_status_probability(
    held_out: HeldOutCalls, *, prevalence: float | None = None
) -> StatusProbability | None:
    """Map P to the probability of a positive status.

    A small penalty keeps the slope finite where P separates the statuses.

    Args:
        held_out: Slides that no model learned from, with a call.
        prevalence: Share of positive slides in the population that the probability is for; None
            takes that of the slides.

    Returns:
        None with fewer than five positive or five negative slides.
    """
    positive = held_out.positive
    if min(int(positive.sum()), int((~positive).sum())) < _FEWEST:
        return None
    fitted = LogisticRegression(C=1.0).fit(
        _logits(held_out.share)[:, None], positive, sample_weight=_weights(positive, prevalence)
    )
    return StatusProbability(
        float(fitted.intercept_[0]), float(fitted.coef_[0, 0]), len(held_out.share)
    )


def net_benefit(positive: NDArray[np.bool_], acted: NDArray[np.bool_], threshold: float) -> float:
    """Return true positives less weighted false positives, for each slide.

    Args:
        positive: True status, bool (S,).
        acted: Whether the slide is acted on, bool (S,).
        threshold: The threshold probability, under 1, whose odds weigh a false positive.
    """
    return float(_contributions(positive, acted, threshold).mean())


def decision_curve(
    set_name: str,
    slides: Sequence[Prediction],
    probability: StatusProbability | None,
    *,
    prevalence: float | None = None,
) -> DecisionCurve | None:
    """Compute the decision curve of the slides of a test set that have a call and a true status.

    Args:
        set_name: Name of the test set.
        slides: Predictions of its slides.
        probability: What maps P to probabilities.
        prevalence: Share of positive slides in the population that the curve is for; None takes
            that of the slides.

    Returns:
        None if one status has no slides.
    """
    called = called_arrays(slides)
    positive = called.positive
    if not positive.any() or positive.all():
        return None
    p = None if probability is None else probability.of(called.fraction)
    return DecisionCurve(
        set=set_name,
        slides=len(positive),
        positive=int(positive.sum()),
        points=tuple(_point(t, called, p, prevalence) for t in PROBABILITIES),
        note=_note(probability, prevalence),
        prevalence=prevalence,
    )


def _note(probability: StatusProbability | None, prevalence: float | None) -> str:
    weighted = (
        ""
        if prevalence is None
        else " Slides are weighted by their status to a population of which"
        f" {100 * prevalence:.3g} % are HER2-positive."
    )
    if probability is None:
        return (
            f"P was not mapped to probabilities: that needs {_FEWEST} positive and {_FEWEST}"
            f" negative slides that were kept apart from training.{weighted}"
        )
    return (
        f"P was mapped to probabilities on {probability.slides} slides that were kept apart from"
        f" training.{weighted}"
    )


def _point(
    threshold: float,
    slides: SlidePredictions,
    p: NDArray[np.float64] | None,
    prevalence: float | None,
) -> DecisionPoint:
    positive = slides.positive
    weights = _weights(positive, prevalence)
    value = half = None
    if p is not None:
        benefit = weights * _contributions(positive, p >= threshold, threshold)
        value = float(benefit.mean())
        # With a stated prevalence it is not chance how many slides are positive.
        strata = np.zeros_like(positive) if prevalence is None else positive
        half = Z * _standard_error(benefit, slides.patient, strata)
    by_call = weights * _contributions(positive, slides.predicted, threshold)
    everyone = weights * _contributions(positive, np.ones_like(positive), threshold)
    return DecisionPoint(
        threshold=threshold,
        by_probability=value,
        low=None if value is None or half is None else value - half,
        high=None if value is None or half is None else value + half,
        by_call=float(by_call.mean()),
        all=float(everyone.mean()),
    )


def _weights(positive: NDArray[np.bool_], prevalence: float | None) -> NDArray[np.float64]:
    """Return weights with a mean of 1 by which that share of the slides is positive."""
    if prevalence is None:
        return np.ones(len(positive))
    here = float(positive.mean())
    return np.where(positive, prevalence / here, (1 - prevalence) / (1 - here))


def _contributions(
    positive: NDArray[np.bool_], acted: NDArray[np.bool_], threshold: float
) -> NDArray[np.float64]:
    weight = threshold / (1 - threshold)
    return np.where(acted, np.where(positive, 1.0, -weight), 0.0)


def _standard_error(
    values: NDArray[np.float64], patient: NDArray[np.str_], strata: NDArray[np.bool_]
) -> float:
    """Return the standard error of a mean, with patients as clusters; NaN for one patient."""
    _, number = np.unique(patient, return_inverse=True)
    patients = int(number.max()) + 1
    if patients < 2:
        return float("nan")
    apart = values.copy()
    for stratum in (strata, ~strata):
        if stratum.any():
            apart[stratum] -= values[stratum].mean()
    of_patient = np.bincount(number, apart)
    return float(np.sqrt(patients / (patients - 1) * (of_patient**2).sum())) / len(values)


def _logits(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(share, _LEAST_SHARE, 1 - _LEAST_SHARE)), np.float64)
