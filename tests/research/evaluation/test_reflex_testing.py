"""IHC tests that are saved by a rule-out threshold."""

import numpy as np
import pytest
from cohort_slides import slides_with
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.evaluation.reflex_testing import (
    HeldOutCalls,
    choose_rule_out,
    reflex_row,
    standardized_npv,
)


def held_out(negative: list[float], positive: list[float]) -> HeldOutCalls:
    share = np.array([*negative, *positive]) / 100
    return HeldOutCalls(
        share,
        np.arange(len(share)) >= len(negative),
        np.array([f"P{number}" for number in range(len(share))]),
    )


def test_the_highest_threshold_that_keeps_the_npv_is_chosen():
    # 40 negative slides from 0.1 % to 4.0 %. With the positive one of 3.55 % 35 of 36 are
    # negative, with 40 of them 40 of 41: both over 0.97. The next positive one makes it 40 of 42.
    negatives = [0.1 * number for number in range(1, 41)]
    rule = choose_rule_out(held_out(negatives, [3.55, 5.0, 40.0]), 0.1)
    assert rule.threshold_percent == pytest.approx(4.5)
    assert rule.npv.value == pytest.approx(40 / 41)
    assert rule.saved.value == pytest.approx(41 / 43)
    assert (rule.slides, rule.patients, rule.positive) == (43, 43, 3)


def test_the_threshold_is_never_above_that_of_a_positive_call():
    rule = choose_rule_out(held_out([1.0] * 50 + [30.0] * 10, [60.0]), 0.1)
    assert rule.threshold_percent == pytest.approx(10)


def test_positive_slides_among_the_lowest_leave_no_threshold():
    rule = choose_rule_out(held_out([3.0] * 10, [0.0, 50.0]), 0.1)
    assert rule.threshold_percent is None
    assert "No rule-out threshold was chosen: under none of them at least 97 %" in rule.note


@pytest.mark.parametrize(("negative", "positive"), [([], []), ([1.0] * 50, []), ([], [40.0])])
def test_without_slides_of_both_statuses_there_is_no_threshold(negative, positive):
    rule = choose_rule_out(held_out(negative, positive), 0.1)
    assert rule.threshold_percent is None
    assert "needs positive and negative slides" in rule.note


def test_the_note_says_when_the_slides_are_too_few_to_show_the_npv():
    few = choose_rule_out(held_out([1.0] * 30, [40.0]), 0.1)
    # Wilson: 30 of 30 has a lower limit of 30 / (30 + 1.96 squared).
    assert few.npv.low == pytest.approx(30 / (30 + 1.959964**2))
    assert "lower limit of its interval is 0.886" in few.note
    assert "lower limit" not in choose_rule_out(held_out([1.0] * 150, [40.0]), 0.1).note


def test_the_test_set_is_measured_and_slides_without_a_call_are_tested():
    rule = choose_rule_out(held_out([1.0] * 50, [40.0]), 0.1)
    test_set = slides_with([0.5] * 7 + [25.0, None], "negative", "N")
    test_set += slides_with([2.0, 60.0, 70.0, None], "positive", "P")
    test_set += slides_with([0.0], "indeterminate", "B")
    row = reflex_row("test", [prediction for _, prediction in test_set], rule)
    assert (row.slides, row.not_tested, row.missed) == (13, 8, 1)
    assert row.saved.value == pytest.approx(8 / 13)
    assert row.npv.value == pytest.approx(7 / 8)
    assert row.found.value == pytest.approx(3 / 4)


def test_the_threshold_does_not_depend_on_the_test_set():
    rule = choose_rule_out(held_out([1.0] * 50, [40.0]), 0.1)
    missed = [prediction for _, prediction in slides_with([0.0] * 9, "positive", "P")]
    assert reflex_row("test", missed, rule).npv.value == 0


def test_without_a_threshold_there_is_no_row():
    rule = choose_rule_out(held_out([], []), 0.1)
    slides = [prediction for _, prediction in slides_with([1.0], "negative", "N")]
    assert reflex_row("test", slides, rule) is None


def chosen_to_have_many_positive() -> HeldOutCalls:
    """40 positive slides of 125, of which 6 look like negative ones."""
    return held_out([0.0] * 78 + [30.0] * 7, [0.0] * 6 + [60.0] * 34)


def test_the_npv_is_that_of_the_stated_population_and_not_of_slides_chosen_by_their_status():
    assert choose_rule_out(chosen_to_have_many_positive(), 0.1).threshold_percent is None
    rule = choose_rule_out(chosen_to_have_many_positive(), 0.1, prevalence=0.125)
    assert rule.threshold_percent == pytest.approx(10)
    right, missed = 0.875 * 78 / 85, 0.125 * 6 / 40
    assert rule.standardized.npv.value == pytest.approx(right / (right + missed))
    assert rule.standardized.saved.value == pytest.approx(right + missed)
    assert rule.npv.value == pytest.approx(78 / 84)
    assert "weighted to a population of which 12.5 % are HER2-positive" in rule.note


def test_a_test_set_is_measured_for_the_same_population():
    rule = choose_rule_out(chosen_to_have_many_positive(), 0.1, prevalence=0.125)
    test_set = slides_with([0.0] * 45 + [30.0] * 5, "negative", "N")
    test_set += slides_with([0.0] * 4 + [50.0] * 16, "positive", "P")
    row = reflex_row("test", [prediction for _, prediction in test_set], rule)
    right, missed = 0.875 * 0.9, 0.125 * 0.2
    assert row.standardized.npv.value == pytest.approx(right / (right + missed))
    assert row.standardized.saved.value == pytest.approx(right + missed)
    assert row.npv.value == pytest.approx(45 / 49)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_for_the_share_of_the_slides_themselves_it_is_the_npv_of_the_slides(slides):
    under, positive = map(np.array, zip(*slides, strict=True))
    patient = np.arange(len(under)).astype(str)
    share = min(max(positive.mean(), 0.01), 0.99)
    found = standardized_npv(under, positive, patient, share)
    if not under.any() or not positive.any() or positive.all():
        assert np.isnan(found.value)
    else:
        assert found.value == pytest.approx((~positive[under]).mean())
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high


def test_its_interval_holds_the_npv_of_the_population_in_95_of_100_studies():
    rng = np.random.default_rng(4)
    positive = np.arange(125) < 40
    patient = np.arange(125).astype(str)
    true = 0.875 * 0.9 / (0.875 * 0.9 + 0.125 * 0.15)
    held = 0
    for _ in range(1000):
        under = rng.random(125) < np.where(positive, 0.15, 0.9)
        found = standardized_npv(under, positive, patient, 0.125)
        held += found.low <= true <= found.high
    assert 0.93 <= held / 1000 <= 0.98
