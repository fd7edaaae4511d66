"""Slide metrics with 95 % intervals (paper, Table S4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import Estimate, proportion
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.roc_area import auroc_estimate


@dataclass(frozen=True, slots=True)
class SlidePredictions:
    """True and predicted HER2 status of S slides.

    Attributes:
        positive: Whether the slide is positive, bool (S,).
        predicted: Whether the slide is predicted positive, bool (S,).
        fraction: P of equation 1, 0 to 1, float64 (S,).
        patient: The slide's patient, str (S,).

    Raises:
        ValueError: The arrays are not one-dimensional or differ in length.
    """

    positive: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    fraction: NDArray[np.float64]
    patient: NDArray[np.str_]

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.positive, self.predicted, self.fraction, self.patient)}
        if len(shapes) > 1:
            raise ValueError("positive, predicted, fraction and patient must have the same length")
        if self.positive.ndim != 1:
            raise ValueError("positive, predicted, fraction and patient must be one-dimensional")


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


def slide_metrics(predictions: SlidePredictions) -> SlideMetrics:
    """Compute metrics with 95 % intervals in which patients are clusters.

    Args:
        predictions: Predictions of the slides.
    """
    positive, predicted = predictions.positive, predictions.predicted
    patient = predictions.patient
    right = positive == predicted
    return SlideMetrics(
        confusion=confusion_of(predictions),
        accuracy=proportion(right, patient),
        sensitivity=proportion(right[positive], patient[positive]),
        specificity=proportion(right[~positive], patient[~positive]),
        auroc=auroc_estimate(positive, predictions.fraction, patient),
    )
