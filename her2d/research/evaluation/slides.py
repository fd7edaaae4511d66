"""Slide metrics with their uncertainty: accuracy, sensitivity, specificity, AUROC (Table S4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from her2d.research.evaluation.confusion import Confusion


@dataclass(frozen=True, slots=True)
class SlidePredictions:
    """What was predicted of S slides, beside what is true.

    Attributes:
        positive: bool (S,), the truth.
        predicted: bool (S,), P >= 10 %.
        fraction: float64 (S,), P of equation 1.

    Raises:
        ValueError: the arrays are not one-dimensional and equally long.
    """

    positive: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    fraction: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.positive.shape == self.predicted.shape == self.fraction.shape:
            raise ValueError("positive, predicted and fraction must be equally long")
        if self.positive.ndim != 1:
            raise ValueError("positive, predicted and fraction must be one-dimensional")

    def taken(self, indices: NDArray[np.int64]) -> "SlidePredictions":
        """The slides at `indices`, in that order."""
        return SlidePredictions(
            self.positive[indices], self.predicted[indices], self.fraction[indices]
        )


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


def confusion_of(predictions: SlidePredictions) -> Confusion:
    """Count the four outcomes."""
    true, predicted = predictions.positive, predictions.predicted
    return Confusion(
        tp=int((true & predicted).sum()),
        fn=int((true & ~predicted).sum()),
        fp=int((~true & predicted).sum()),
        tn=int((~true & ~predicted).sum()),
    )


def slide_metrics(
    predictions: SlidePredictions, *, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> SlideMetrics:
    """Metrics of `predictions` with percentile bootstrap intervals over slides.

    Positives and negatives are resampled each among themselves, as the paper's test sets were
    drawn: with few positives a plain bootstrap would draw sets that hold none.
    """
    groups = [np.flatnonzero(predictions.positive), np.flatnonzero(~predictions.positive)]
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _figures(
                predictions.taken(np.concatenate([rng.choice(g, len(g)) for g in groups if len(g)]))
            )
            for _ in range(resamples if len(predictions.positive) else 0)
        ]
    ).reshape(-1, 4)
    tail = 50 * (1 - confidence)
    estimates = []
    for number, value in enumerate(_figures(predictions)):
        column = drawn[:, number]
        known = len(column) > 0 and not np.isnan(column).any()
        low, high = np.percentile(column, [tail, 100 - tail]) if known else (np.nan, np.nan)
        estimates.append(Estimate(value, float(low), float(high)))
    return SlideMetrics(confusion_of(predictions), *estimates)


def auroc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve; NaN where only one class is there."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))


def _figures(predictions: SlidePredictions) -> tuple[float, float, float, float]:
    found = confusion_of(predictions)
    area = auroc(predictions.positive, predictions.fraction)
    return found.accuracy, found.sensitivity, found.specificity, area
