"""Shares with intervals that have a width."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from her2d.calibration.proportion import effective_slides, proportion, wilson


def each(number: int) -> np.ndarray:
    return np.array([f"P{n}" for n in range(number)], str)


@given(st.integers(0, 40), st.integers(1, 40))
def test_of_one_slide_a_patient_the_interval_is_wilsons(found, more):
    slides = found + more
    textbook = binomtest(found, slides).proportion_ci(method="wilson")
    estimate = proportion(np.arange(slides) < found, each(slides))
    assert (estimate.low, estimate.high) == pytest.approx((textbook.low, textbook.high), abs=1e-9)
    assert estimate.high - estimate.low > 0.01


def test_one_of_two_is_known_to_be_hardly_anything():
    estimate = proportion(np.array([True, False]), each(2))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (0.5, 0.095, 0.905), abs=1e-3
    )


def test_a_share_of_nothing_is_not_a_number():
    assert math.isnan(proportion(np.zeros(0, bool), each(0)).low)


def test_slides_of_a_patient_that_agree_count_once():
    found, patient = np.repeat([True, False, True, False, True], 10), np.repeat(each(5), 10)
    assert effective_slides(found, patient) == 5
    assert effective_slides(np.ones(50, bool), patient) == 5
    estimate = proportion(found, patient)
    assert (estimate.low, estimate.high) == pytest.approx(wilson(0.6, 5))


def test_slides_of_a_patient_that_have_nothing_in_common_all_count():
    found, patient = np.tile([True, False], 25), np.repeat(each(25), 2)
    assert effective_slides(found, patient) == 50
