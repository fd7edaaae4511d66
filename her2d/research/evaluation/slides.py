"""Slide metrics with bootstrap intervals (paper, Table S4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from her2d.research.evaluation.confusion import Confusion


@dataclass(frozen=True, slots=True)
class SlidePredictions:
    """True and predicted HER2 status of S slides.

    Attributes:
        positive: Whether the slide is positive, bool (S,).
        predicted: Whether the slide is predicted positive, P >= 10 %, bool (S,).
        fraction: P of equation 1, 0 to 1, float64 (S,).

    Raises:
        ValueError: The arrays are not one-dimensional or differ in length.
    """

    positive: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    fraction: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.positive.shape == self.predicted.shape == self.fraction.shape:
            raise ValueError("positive, predicted and fraction must have the same length")
        if self.positive.ndim != 1:
            raise ValueError("positive, predicted and fraction must be one-dimensional")

    def take(self, indices: NDArray[np.int64]) -> "SlidePredictions":
        """Return the slides at `indices`, int64 (N,), in that order."""
        return SlidePredictions(
            self.positive[indices], self.predicted[indices], self.fraction[indices]
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric and the limits of its percentile bootstrap interval; NaN if not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SlideMetrics:
    """The metrics of one row of Table S4."""

    confusion: Confusion
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    auroc: Estimate


def confusion_of(predictions: SlidePredictions) -> Confusion:
    """Count true and false positives and negatives."""
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
    """Compute metrics with percentile bootstrap intervals over slides.

    Positive and negative slides are resampled separately, because with few positive slides some
    samples of a plain bootstrap would not contain any.

    Args:
        predictions: Predictions of the slides.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap samples.
        confidence: Confidence level of the intervals, 0 to 1.
    """
    groups = [np.flatnonzero(predictions.positive), np.flatnonzero(~predictions.positive)]
    rng = np.random.default_rng(seed)
    resampled = np.array(
        [
            _metrics(
                predictions.take(np.concatenate([rng.choice(g, len(g)) for g in groups if len(g)]))
            )
            for _ in range(resamples if len(predictions.positive) else 0)
        ]
    ).reshape(-1, 4)
    tail = 50 * (1 - confidence)
    estimates = []
    for number, value in enumerate(_metrics(predictions)):
        column = resampled[:, number]
        known = len(column) > 0 and not np.isnan(column).any()
        low, high = np.percentile(column, [tail, 100 - tail]) if known else (np.nan, np.nan)
        estimates.append(Estimate(value, float(low), float(high)))
    return SlideMetrics(confusion_of(predictions), *estimates)


def auroc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Compute the area under the ROC curve.

    Args:
        positive: True class, bool (N,).
        score: Score that is higher for the positive class, float (N,).

    Returns:
        The area, or NaN if only one class is present.
    """
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score))


def _metrics(predictions: SlidePredictions) -> tuple[float, float, float, float]:
    found = confusion_of(predictions)
    area = auroc(predictions.positive, predictions.fraction)
    return found.accuracy, found.sensitivity, found.specificity, area
