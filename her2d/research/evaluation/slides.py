"""Slide metrics with their uncertainty: accuracy, sensitivity, specificity, AUROC (Table S4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from her2d.research.evaluation.confusion import Confusion


@dataclass(frozen=True, slots=True)
class SlideCalls:
    """What was called of S slides, beside what is true.

    Attributes:
        positive: bool (S,), the truth.
        called: bool (S,), P >= 10 %.
        fraction: float64 (S,), P of equation 1.

    Raises:
        ValueError: the arrays are not one-dimensional and equally long.
    """

    positive: NDArray[np.bool_]
    called: NDArray[np.bool_]
    fraction: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.positive.shape == self.called.shape == self.fraction.shape:
            raise ValueError("positive, called and fraction must be equally long")
        if self.positive.ndim != 1:
            raise ValueError("positive, called and fraction must be one-dimensional")

    def taken(self, indices: NDArray[np.int64]) -> "SlideCalls":
        """The slides at `indices`, in that order."""
        return SlideCalls(self.positive[indices], self.called[indices], self.fraction[indices])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its percentile bootstrap interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SlideMetrics:
    """Table S4's row of one set of slides."""

    confusion: Confusion
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auroc: Estimate


def confusion_of(calls: SlideCalls) -> Confusion:
    """Count the four outcomes."""
    true, called = calls.positive, calls.called
    return Confusion(
        tp=int((true & called).sum()),
        fn=int((true & ~called).sum()),
        fp=int((~true & called).sum()),
        tn=int((~true & ~called).sum()),
    )


def slide_metrics(
    calls: SlideCalls, *, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> SlideMetrics:
    """Metrics of `calls` with percentile bootstrap intervals over slides.

    Positives and negatives are resampled each among themselves, as the paper's test sets were
    drawn: with few positives a plain bootstrap would draw sets that hold none.
    """
    groups = [np.flatnonzero(calls.positive), np.flatnonzero(~calls.positive)]
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _figures(calls.taken(np.concatenate([rng.choice(g, len(g)) for g in groups if len(g)])))
            for _ in range(resamples if len(calls.positive) else 0)
        ]
    ).reshape(-1, 4)
    tail = 50 * (1 - confidence)
    estimates = []
    for number, value in enumerate(_figures(calls)):
        column = drawn[:, number]
        known = len(column) > 0 and not np.isnan(column).any()
        low, high = np.percentile(column, [tail, 100 - tail]) if known else (np.nan, np.nan)
        estimates.append(Estimate(value, float(low), float(high)))
    return SlideMetrics(confusion_of(calls), *estimates)


def auroc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve; NaN where only one class is there."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))


def _figures(calls: SlideCalls) -> tuple[float, float, float, float]:
    found = confusion_of(calls)
    area = auroc(calls.positive, calls.fraction)
    return found.accuracy, found.sensitivity, found.specificity, area
