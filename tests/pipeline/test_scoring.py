"""Equation 1 and the decision."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.bundle.site_calibration import IhcZone, Measure
from her2d.pipeline.evaluability import Obstacle, ReasonCode
from her2d.pipeline.interval import Interval
from her2d.pipeline.scoring import Her2Status, score_slide, with_ihc_zone
from her2d.pipeline.tile_counts import TileCounts, high_expression_fraction

TILE = 512 * 512
NO_CALL = Obstacle(ReasonCode.TOO_LITTLE_TUMOR, "Too little tumour was found.")

tiles = st.lists(st.tuples(st.integers(1, TILE), st.booleans()), min_size=1, max_size=40)


def counts(pairs) -> TileCounts:
    return TileCounts(
        np.array([pixels for pixels, _ in pairs], np.int64),
        np.array([strong for _, strong in pairs], np.bool_),
    )


def score(pairs, *, obstacle=None, interval=None):
    return score_slide(counts(pairs), obstacle=obstacle, interval=interval)


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
        counts([(7, True), (93, False)]), obstacle=None, threshold=0.07, interval=None
    )
    assert (found.her2_status, found.threshold_percent) == (Her2Status.POSITIVE, 7.0)
    assert score([(7, True)]).threshold_percent == 10.0


def test_a_result_says_what_its_interval_is_an_interval_of():
    meanings = [
        score([(1000, True)], interval=Interval(0.5, 1.0, calibrated)).ci_meaning
        for calibrated in (True, False)
    ]
    assert meanings[0].startswith("Calibrated: for 95 of 100 slides")
    assert meanings[1].startswith("Not calibrated: ")
    assert score([(7, True)]).ci_meaning is None


def test_a_slide_with_an_obstacle_has_a_code_and_a_sentence_and_no_number():
    found = score([(1000, True)] * 5, obstacle=NO_CALL, interval=Interval(0.5, 1.0, True))
    assert found.her2_status is Her2Status.INDETERMINATE
    assert (found.reason_code, found.reason) == (NO_CALL.code, NO_CALL.sentence)
    assert found.high_expression_percent is found.ci_low is found.ci_high is None
    assert not found.borderline


def test_a_slide_with_an_obstacle_keeps_what_was_counted():
    found = score([(1000, True), (500, False)], obstacle=NO_CALL)
    assert (found.tumor_pixels, found.strong_pixels) == (1500, 1000)
    assert (found.tiles_tumor, found.tiles_strong) == (2, 1)


def test_a_slide_without_tumor_and_without_an_obstacle_is_a_defect():
    with pytest.raises(ValueError, match="without tumour"):
        score([])


def test_tiles_without_tumor_pixels_are_not_tumor_tiles():
    with pytest.raises(ValueError, match="at least one tumour pixel"):
        counts([(0, True)])


ZONE = IhcZone(
    sensitivity=0.95,
    from_percent=4.0,
    below_percent=10.0,
    positive_slides=40,
    positive_patients=40,
    sensitivity_at_least=0.88,
    sent=Measure(value=0.1, low=0.05, high=0.2),
)


@pytest.mark.parametrize(
    ("strong", "sent"), [(0, False), (3, False), (4, True), (9, True), (10, False), (60, False)]
)
def test_a_negative_slide_in_the_zone_is_sent_to_ihc_and_no_positive_one(strong, sent):
    found = score([(1000, n < strong) for n in range(100)])
    assert with_ihc_zone(found, ZONE).send_to_ihc is sent
    assert with_ihc_zone(found, None).send_to_ihc is None


def test_a_slide_without_a_call_is_always_sent_to_ihc():
    found = with_ihc_zone(score([(1000, True)], obstacle=NO_CALL), ZONE)
    assert found.send_to_ihc
    assert found.ihc_advice == "Send to IHC: the slide has no call."


def test_the_advice_says_why_a_negative_slide_is_sent():
    found = score([(1000, n < 5) for n in range(100)])
    assert with_ihc_zone(found, ZONE).ihc_advice.startswith("Send to IHC: by this laboratory's")
    assert found.ihc_advice is None
