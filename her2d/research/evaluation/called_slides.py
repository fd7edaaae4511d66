"""Predictions of slides or patients as arrays, and the metrics of those with a call."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from her2d.research.evaluation.slides import SlideMetrics, SlidePredictions, slide_metrics
from her2d.research.training.cohort import Status

INDETERMINATE = Status.INDETERMINATE.value


class Prediction(Protocol):
    """A slide or a patient with a true and a predicted status."""

    @property
    def patient(self) -> str: ...
    @property
    def true_status(self) -> str: ...
    @property
    def predicted(self) -> str: ...
    @property
    def percent(self) -> float | None: ...


def with_status(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return those with a true status, which tissue without tumour does not have."""
    return [each for each in predictions if each.true_status != INDETERMINATE]


def with_call(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return those with a true status and a call."""
    return [each for each in with_status(predictions) if each.predicted != INDETERMINATE]


def called_arrays(predictions: Sequence[Prediction]) -> SlidePredictions:
    """Return those with a true status and a call as arrays."""
    known = with_call(predictions)
    return SlidePredictions(
        np.array([each.true_status == Status.POSITIVE for each in known], bool),
        np.array([each.predicted == Status.POSITIVE for each in known], bool),
        np.array([each.percent for each in known], np.float64) / 100,
        np.array([each.patient for each in known], str),
    )


def metrics_of(predictions: Sequence[Prediction]) -> SlideMetrics:
    """Measure those with a true status and a call."""
    return slide_metrics(called_arrays(predictions))
