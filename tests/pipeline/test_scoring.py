"""Equation 1 and the decision."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.pipeline.interval import Interval
from her2d.pipeline.scoring import (
    Her2Status,
    TileCounts,
    high_expression_fraction,
    score_slide,
)

TILE = 512 * 512

tiles = st.lists(st.tuples(st.integers(1, TILE), st.booleans()), min_size=1, max_size=40)


def counts(pairs) -> TileCounts:
    return TileCounts(
        np.array([pixels for pixels, _ in pairs], np.int64),
        np.array([strong for _, strong in pairs], np.bool_),
    )


def score(pairs, *, unreadable=0, pixels=0, interval=None):
    return score_slide(
        counts(pairs), tiles_unreadable=unreadable, unreadable_pixels=pixels, interval=interval
    )


@given(tiles)
def test_p_is_a_fraction(pairs):
    assert 0 <= high_expression_fraction(counts(pairs)) <= 1


@given(tiles)
def test_p_is_strong_tumor_pixels_over_all_tumor_pixels(pairs):
    strong = sum(pixels for pixels, is_strong in pairs if is_strong)
    assert high_expression_fraction(counts(pairs)) == Fraction(strong, sum(p for p, _ in pairs))


@given(tiles, st.randoms(use_true_random=False))
def test_the_order_of_tiles_changes_nothing(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert score(shuffled) == score(pairs)


@given(tiles, st.integers(1, TILE // 2))
def test_a_tile_with_twice_the_pixels_weighs_as_much_as_two(pairs, pixels):
    once = counts([*pairs, (2 * pixels, True)])
    twice = counts([*pairs, (pixels, True), (pixels, True)])
    assert high_expression_fraction(once) == high_expression_fraction(twice)


@given(tiles, st.data())
def test_p_never_falls_when_a_weak_tile_becomes_strong(pairs, data):
    index = data.draw(st.integers(0, len(pairs) - 1))
    stronger = [(p, s or i == index) for i, (p, s) in enumerate(pairs)]
    assert high_expression_fraction(counts(stronger)) >= high_expression_fraction(counts(pairs))


@given(st.integers(1, TILE // 10))
def test_exactly_a_tenth_is_positive(pixels):
    assert score([(pixels, True), (9 * pixels, False)]).her2_status is Her2Status.POSITIVE


@given(st.integers(1, TILE // 10))
def test_one_pixel_under_a_tenth_is_negative(pixels):
    assert score([(pixels, True), (9 * pixels + 1, False)]).her2_status is Her2Status.NEGATIVE


@pytest.mark.parametrize(
    ("low", "high", "borderline"),
    [(0.02, 0.09, False), (0.02, 0.1, True), (0.1, 0.3, True), (0.11, 0.3, False)],
)
def test_a_result_is_borderline_if_its_interval_contains_the_threshold(low, high, borderline):
    found = score([(1000, False)] * 9 + [(1000, True)], interval=Interval(low, high, True))
    assert (found.ci_low, found.ci_high) == (100 * low, 100 * high)
    assert (found.borderline, found.ci_calibrated) == (borderline, True)


def test_a_result_states_the_threshold_that_it_was_called_by():
    found = score_slide(
        counts([(7, True), (93, False)]),
        tiles_unreadable=0,
        unreadable_pixels=0,
        threshold=0.07,
        interval=None,
    )
    assert (found.her2_status, found.threshold_percent) == (Her2Status.POSITIVE, 7.0)
    assert score([]).threshold_percent == 10.0


def test_a_result_says_what_its_interval_is_an_interval_of():
    meanings = [
        score([(1000, True)], interval=Interval(0.5, 1.0, calibrated)).ci_meaning
        for calibrated in (True, False)
    ]
    assert meanings[0].startswith("Calibrated: for 95 of 100 slides")
    assert meanings[1].startswith("Not calibrated: ")
    assert score([]).ci_meaning is None


def test_a_slide_without_tumor_is_indeterminate_with_a_reason():
    found = score([])
    assert found.her2_status is Her2Status.INDETERMINATE
    assert found.reason == "No tumour was found in any tile."
    assert found.high_expression_percent is None


def test_the_reason_names_both_missing_tumor_and_unread_tiles():
    assert "2 tiles could not be read" in score([], unreadable=2, pixels=2 * TILE).reason


def test_unread_tiles_that_could_change_the_call_make_it_indeterminate():
    negative = [(TILE, False)] * 9
    assert score(negative, unreadable=1, pixels=TILE).her2_status is Her2Status.INDETERMINATE
    assert score(negative, unreadable=1, pixels=TILE // 2).her2_status is Her2Status.NEGATIVE
    positive = [(TILE, True)] + [(TILE, False)] * 8
    assert score(positive, unreadable=2, pixels=2 * TILE).her2_status is Her2Status.INDETERMINATE
    assert score(positive, unreadable=1, pixels=TILE).her2_status is Her2Status.POSITIVE


@given(tiles, st.integers(0, 5 * TILE), st.data())
def test_no_content_of_unread_tiles_could_change_a_call(pairs, pixels, data):
    found = score(pairs, unreadable=5, pixels=pixels)
    if found.her2_status is Her2Status.INDETERMINATE or pixels == 0:
        return
    tumor = data.draw(st.integers(1, pixels))
    strong = data.draw(st.integers(0, tumor))
    revealed = [(strong, True), (tumor - strong, False)]
    whole = score([*pairs, *[(p, s) for p, s in revealed if p]])
    assert whole.her2_status is found.her2_status


def test_tiles_without_tumor_pixels_are_not_tumor_tiles():
    with pytest.raises(ValueError, match="at least one tumour pixel"):
        counts([(0, True)])
