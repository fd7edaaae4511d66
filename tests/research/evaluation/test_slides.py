"""Slide metrics: the paper's own figures, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.slides import SlidePredictions, confusion_of, slide_metrics

INTERNAL = Confusion(tp=16, fn=2, fp=9, tn=88)
EXTERNAL = Confusion(tp=18, fn=3, fp=8, tn=73)


def predictions_of(confusion: Confusion) -> SlidePredictions:
    outcomes = [(1, 1), (1, 0), (0, 1), (0, 0)]
    times = [confusion.tp, confusion.fn, confusion.fp, confusion.tn]
    positive, predicted = np.repeat(np.array(outcomes, bool), times, axis=0).T
    return SlidePredictions(
        positive,
        predicted,
        np.where(predicted, 0.4, 0.02),
        np.array([f"P{number}" for number in range(len(positive))], str),
    )


def test_the_papers_confusion_matrices_give_its_accuracies():
    assert round(INTERNAL.accuracy, 4) == 0.9043
    assert round(EXTERNAL.accuracy, 4) == 0.8922


def test_sensitivity_and_specificity_are_shares_of_the_truth():
    assert INTERNAL.sensitivity == pytest.approx(16 / 18)
    assert INTERNAL.specificity == pytest.approx(88 / 97)


def test_a_share_of_nothing_is_not_a_number():
    assert math.isnan(Confusion(0, 0, 1, 1).sensitivity)
    assert math.isnan(Confusion(0, 0, 0, 0).accuracy)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        Confusion(1, -1, 0, 0)


@given(*[st.integers(0, 9)] * 4)
def test_predictions_are_counted_by_outcome(tp, fn, fp, tn):
    assert confusion_of(predictions_of(Confusion(tp, fn, fp, tn))) == Confusion(tp, fn, fp, tn)


@pytest.mark.parametrize("confusion", [INTERNAL, EXTERNAL])
def test_intervals_hold_their_figure_and_have_a_width(confusion):
    found = slide_metrics(predictions_of(confusion))
    for estimate in (found.accuracy, found.sensitivity, found.specificity, found.auroc):
        assert 0 < estimate.low < estimate.value < estimate.high < 1
        assert estimate.high - estimate.low > 0.02


def test_without_positives_only_specificity_and_accuracy_are_known():
    found = slide_metrics(predictions_of(Confusion(0, 0, 2, 8)))
    assert math.isnan(found.sensitivity.value)
    assert math.isnan(found.auroc.low)
    assert found.specificity.value == 0.8


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="the same length"):
        SlidePredictions(np.ones(2, bool), np.ones(3, bool), np.ones(2), np.array(["a", "b"]))
