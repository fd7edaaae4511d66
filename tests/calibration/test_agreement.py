"""How calls, P and its interval agree with IHC and FISH."""

import math

import numpy as np
import pytest

from her2d.calibration.agreement import Bias, CalledSlides, agreement, call_bias, share_bias


def slides(called, positive, *, p=None, share=None, patient=None, half=0.05) -> CalledSlides:
    called = np.array(called, bool)
    number = len(called)
    p = np.where(called, 0.4, 0.02) if p is None else np.array(p)
    return CalledSlides(
        patient=np.array(patient or [f"P{n}" for n in range(number)], str),
        called=called,
        positive=np.array(positive, bool),
        p=p,
        low=np.maximum(p - half, 0),
        high=p + half,
        threshold=np.full(number, 0.1),
        ihc_share=np.full(number, np.nan) if share is None else np.array(share, float),
    )


def test_rates_are_those_of_the_four_fields():
    found = agreement(slides([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]))
    assert found.sensitivity.value == pytest.approx(2 / 3)
    assert found.specificity.value == pytest.approx(4 / 5)
    assert found.positive_predictive_value.value == pytest.approx(2 / 3)
    assert found.negative_predictive_value.value == pytest.approx(4 / 5)
    assert found.call_bias.value == 0
    assert found.interval_agrees.value == 6 / 8


def test_calls_that_are_too_often_positive_are_a_positive_bias():
    found = call_bias(slides([1] * 10 + [0] * 30, [0] * 10 + [0] * 30))
    assert found.value == 0.25
    assert found.standard_error == pytest.approx(0.0730, abs=0.002)  # Bonett and Price: 0.0722
    assert found.estimate.low > 0


def test_a_bias_of_nothing_is_not_known_exactly():
    found = call_bias(slides([1, 0, 0], [1, 0, 0]))
    assert found.value == 0
    assert found.standard_error > 0.2


def test_the_bias_of_p_is_measured_where_the_share_is_known():
    found = agreement(
        slides([1, 1, 0, 0], [1, 1, 0, 0], p=[0.5, 0.4, 0.02, 0.03], share=[0.46, 0.3, 0.0, np.nan])
    )
    assert found.share_bias.slides == 3
    assert found.share_bias.value == pytest.approx((0.04 + 0.1 + 0.02) / 3)
    assert found.covered.value == pytest.approx(2 / 3)


def test_a_bias_of_one_patient_is_not_known():
    found = share_bias(slides([1, 1], [1, 1], share=[0.4, 0.3], patient=["A", "A"]))
    assert math.isnan(found.value)


def test_slides_of_a_patient_that_err_alike_count_once():
    called, positive = [1] * 10 + [0] * 40, [0] * 50
    alone = call_bias(slides(called, positive))
    together = call_bias(
        slides(called, positive, patient=["A"] * 10 + [f"B{n}" for n in range(40)])
    )
    assert together.standard_error > 2 * alone.standard_error


def test_an_interval_that_holds_the_threshold_does_not_contradict_ihc():
    found = agreement(slides([1, 0], [0, 0], p=[0.12, 0.02]))
    assert found.interval_agrees.value == 1


def test_nothing_is_not_a_rate():
    found = agreement(slides([], []))
    assert math.isnan(found.call_bias.value)
    assert math.isnan(found.positive_predictive_value.low)


def test_the_change_of_a_bias_has_the_errors_of_both():
    found = Bias(0.10, 0.03, 50).since(Bias(0.02, 0.04, 200))
    assert (found.value, found.standard_error, found.slides) == pytest.approx((0.08, 0.05, 50))


def test_the_interval_of_the_bias_holds_the_true_one_in_95_of_100_laboratories():
    hits = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        positive = rng.random(150) < 0.2
        called = np.where(positive, rng.random(150) < 0.8, rng.random(150) < 0.1)
        interval = call_bias(slides(called, positive)).estimate
        hits.append(interval.low <= 0.8 * 0.1 - 0.2 * 0.2 <= interval.high)
    assert 0.92 <= np.mean(hits) <= 0.98
