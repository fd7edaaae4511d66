"""Net benefit against the threshold probability."""

import numpy as np
import pytest
from cohort_slides import slides_with
from scipy.special import expit, logit

from her2d.research.evaluation.decision_curve import (
    StatusProbability,
    decision_curve,
    fit_status_probability,
    net_benefit,
)
from her2d.research.evaluation.reflex_testing import HeldOutCalls


def test_a_false_positive_is_weighted_by_the_odds_of_the_threshold_probability():
    positive = np.array([True, True, False, False, False])
    acted = np.array([True, False, True, True, False])
    # 1 of 5 right, 2 of 5 wrong at odds of 1 to 4.
    assert net_benefit(positive, acted, 0.2) == pytest.approx(1 / 5 - 2 / 5 / 4)


def test_acting_on_all_is_worth_nothing_at_the_prevalence():
    positive = np.arange(10) < 3
    everyone = np.ones(10, bool)
    assert net_benefit(positive, everyone, 0.3) == pytest.approx(0)
    assert net_benefit(positive, everyone, 0.1) > 0
    assert net_benefit(positive, everyone, 0.5) < 0


def held_out(shares: list[float], positive: list[bool]) -> HeldOutCalls:
    patients = np.array([f"P{number}" for number in range(len(shares))])
    return HeldOutCalls(np.array(shares), np.array(positive), patients)


def test_p_is_mapped_to_a_probability_that_rises_with_it():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 4000)
    positive = rng.random(4000) < expit(1 + 2 * logit(p))
    found = fit_status_probability(held_out(p.tolist(), positive.tolist()))
    assert found.intercept == pytest.approx(1, abs=0.15)
    assert found.slope == pytest.approx(2, abs=0.15)
    assert found.of(np.array([0.5])) == pytest.approx(expit(found.intercept))


def test_a_share_of_0_and_statuses_that_p_separates_give_finite_probabilities():
    found = fit_status_probability(held_out([0.0] * 6 + [1.0] * 6, [False] * 6 + [True] * 6))
    low, high = found.of(np.array([0.0, 1.0]))
    assert 0 < low < 0.1
    assert 0.9 < high < 1


@pytest.mark.parametrize("positive", [0, 4, 12])
def test_too_few_slides_of_a_status_give_no_probability(positive):
    calls = held_out([0.1] * 12, [number < positive for number in range(12)])
    assert fit_status_probability(calls) is None


def a_test_set():
    found = slides_with([1.0] * 6 + [20.0, None], "negative", "N")
    found += slides_with([2.0, 50.0, 60.0], "positive", "P")
    return [prediction for _, prediction in found]


def test_the_curve_compares_probability_calls_all_and_none():
    curve = decision_curve("test", a_test_set(), StatusProbability(0.0, 1.0, 60))
    assert (curve.slides, curve.positive) == (10, 3)
    point = next(point for point in curve.points if point.threshold == 0.1)
    # Called: 2 of 3 positive, 1 of 7 negative slides; so does a probability that equals P.
    assert point.by_call == pytest.approx(2 / 10 - 1 / 10 / 9)
    assert point.by_probability == pytest.approx(point.by_call)
    assert point.all == pytest.approx(3 / 10 - 7 / 10 / 9)


def test_the_interval_is_that_of_a_mean_when_each_patient_has_one_slide():
    curve = decision_curve("test", a_test_set(), StatusProbability(0.0, 1.0, 60))
    point = next(point for point in curve.points if point.threshold == 0.1)
    values = np.array([1, 1, -1 / 9, *[0] * 7])
    error = values.std(ddof=1) / np.sqrt(10)
    assert point.high - point.by_probability == pytest.approx(1.959964 * error, abs=1e-5)


def test_without_a_probability_the_calls_still_have_a_curve_and_the_note_says_why():
    curve = decision_curve("test", a_test_set(), None)
    assert all(point.by_probability is None for point in curve.points)
    assert "P was not mapped to probabilities" in curve.note


def test_there_is_no_curve_of_one_status():
    only = [prediction for _, prediction in slides_with([1.0] * 3, "negative", "N")]
    assert decision_curve("test", only, None) is None


def test_a_curve_for_a_population_weighs_slides_by_their_status():
    curve = decision_curve("test", a_test_set(), StatusProbability(0.0, 1.0, 60), prevalence=0.125)
    point = next(point for point in curve.points if point.threshold == 0.1)
    # 2 of 3 positive slides and 1 of 7 negative ones are called.
    assert point.by_call == pytest.approx(0.125 * 2 / 3 - 0.875 / 7 / 9)
    assert point.by_probability == pytest.approx(point.by_call)
    assert point.all == pytest.approx(0.125 - 0.875 / 9)
    assert "a population of which 12.5 % are HER2-positive" in curve.note


def test_what_acting_on_all_is_worth_there_is_known_without_error():
    certain = StatusProbability(100.0, 0.0, 60)
    curve = decision_curve("test", a_test_set(), certain, prevalence=0.125)
    for point in curve.points:
        assert point.low == pytest.approx(point.all)
        assert point.high == pytest.approx(point.all)


def test_a_probability_for_a_population_does_not_depend_on_how_slides_were_chosen():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, 20_000)
    positive = rng.random(20_000) < expit(-2 + 2 * logit(p))
    chosen = positive | (rng.random(20_000) < 0.2)  # a fifth of the negative slides
    calls = held_out(p[chosen].tolist(), positive[chosen].tolist())
    found = fit_status_probability(calls, prevalence=float(positive.mean()))
    assert found.intercept == pytest.approx(-2, abs=0.15)
    assert found.slope == pytest.approx(2, abs=0.15)
    assert fit_status_probability(calls).intercept > -1
