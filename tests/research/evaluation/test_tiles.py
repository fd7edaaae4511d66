"""Mean intersection over union."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.evaluation.tiles import mean_iou, pixel_confusion


def test_it_is_that_of_a_confusion_matrix_done_by_hand():
    assert mean_iou(np.array([[50, 10], [20, 20]])) == pytest.approx((50 / 80 + 20 / 50) / 2)


def test_pixels_are_counted_by_truth_then_prediction():
    truth = np.array([[0, 0, 0, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    assert pixel_confusion(truth, predicted).tolist() == [[1, 2], [0, 1]]


@given(st.integers(0, 1000))
def test_a_mask_agrees_fully_with_itself(seed):
    mask = np.random.default_rng(seed).integers(0, 2, (8, 8), dtype=np.uint8)
    assert mean_iou(pixel_confusion(mask, mask)) == 1


def test_a_class_that_nobody_saw_is_left_out():
    assert mean_iou(np.array([[7, 0], [0, 0]])) == 1
    assert math.isnan(mean_iou(np.zeros((2, 2), np.int64)))
