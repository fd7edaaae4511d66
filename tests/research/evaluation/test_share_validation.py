"""P compared with the annotated share, and the calls from it with the HER2 status."""

import math

import numpy as np
import pytest

from her2d.research.evaluation.figures import (
    agreement_figure,
    bland_altman_figure,
    risk_coverage_figure,
)
from her2d.research.evaluation.share_validation import (
    ValidatedSlides,
    agreement,
    deferral,
    risk_coverage,
    sweep,
    tile_rule,
)

# P, interval, annotated by tile and by area, positive
SLIDES = [
    (0.02, 0.00, 0.08, 0.00, 0.04, False),
    (0.08, 0.03, 0.20, 0.12, 0.14, True),
    (0.14, 0.05, 0.30, 0.08, 0.11, False),
    (0.40, 0.25, 0.60, 0.35, 0.30, True),
    (0.90, 0.70, 1.00, math.nan, math.nan, True),
]


@pytest.fixture
def slides() -> ValidatedSlides:
    share, low, high, by_tile, by_area, positive = map(np.array, zip(*SLIDES, strict=True))
    patient = np.array([f"P{number}" for number in range(len(share))])
    return ValidatedSlides(patient, positive, share, low, high, by_tile, by_area)


def test_p_is_compared_with_the_share_of_the_slides_that_have_one(slides):
    found = agreement(slides, slides.by_tile, 0.1)
    errors = np.array([2.0, -4.0, 6.0, 5.0])
    assert found.slides == 4
    assert found.bias == pytest.approx(errors.mean())
    assert found.mean_absolute_error == pytest.approx(np.abs(errors).mean())
    assert found.limits_high - found.bias == pytest.approx(1.96 * errors.std(ddof=1))
    assert found.covered.value == 1.0
    assert found.covered.low == pytest.approx(4 / (4 + 1.959964**2))
    assert found.same_status.value == 0.5
    assert agreement(slides, slides.by_area, 0.1).same_status.value == 0.75


def test_the_tile_rule_is_said_to_put_slides_on_the_other_side(slides):
    found = tile_rule(slides, 0.1)
    assert (found.slides, found.other_status) == (4, 1)
    assert found.bias == pytest.approx(100 * (0.55 - 0.59) / 4)


def test_the_most_doubtful_slides_are_left_out_first(slides):
    points = risk_coverage(slides, 0.1)
    assert [p.called for p in points] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    # Both wrong calls are the ones whose interval holds the threshold.
    assert [p.wrong for p in points] == pytest.approx([0, 0, 0, 0.25, 0.4])


def test_borderline_slides_hold_the_wrong_calls(slides):
    found = deferral(slides, 0.1)
    assert found.borderline.value == 0.4
    assert (found.wrong_of_others.value, found.wrong_found.value) == (0.0, 1.0)
    assert found.wrong_of_others.high > 0.5


def test_a_lower_threshold_finds_more_positives(slides):
    points = {point.threshold_percent: point for point in sweep(slides)}
    assert (min(points), max(points)) == (1, 50)
    assert points[10].sensitivity.value == pytest.approx(2 / 3)
    assert (points[7].sensitivity.value, points[50].sensitivity.value) == (
        1.0,
        pytest.approx(1 / 3),
    )
    assert points[10].specificity.value == 0.5
    assert points[10].negative_predictive_value.value == 0.5
    assert points[1].negative_predictive_value.value is None


def test_without_slides_nothing_is_known():
    nothing = np.zeros(0)
    slides = ValidatedSlides(
        np.zeros(0, str), np.zeros(0, bool), nothing, nothing, nothing, nothing, nothing
    )
    assert agreement(slides, slides.by_area, 0.1).bias is None
    assert tile_rule(slides, 0.1).bias is None
    assert risk_coverage(slides, 0.1) == ()
    assert deferral(slides, 0.1).borderline.value is None


def test_figures_are_drawn_where_there_is_something_to_draw(slides):
    for found in (
        agreement_figure(slides, slides.by_area, 10.0, "P"),
        bland_altman_figure(slides, slides.by_area, "P"),
        risk_coverage_figure(risk_coverage(slides, 0.1), "Risk"),
    ):
        assert found.startswith("<svg")
    unknown = np.full(5, math.nan)
    assert agreement_figure(slides, unknown, 10.0, "P") is None
    assert bland_altman_figure(slides, unknown, "P") is None
    assert risk_coverage_figure((), "Risk") is None
