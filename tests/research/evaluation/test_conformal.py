"""Fitting the calibration of P's interval."""

import numpy as np
import pytest

from her2d.method import THRESHOLD
from her2d.pipeline.conformal import EVIDENCE, residual_quantile, scale_of
from her2d.research.evaluation.conformal import (
    CalibrationSlide,
    TooFewSlidesError,
    fewest_patients,
    fit_interval,
)


def slides(count, *, slides_each=1, of=1.0):
    rng = np.random.default_rng(1)
    found = []
    for number in range(count * slides_each):
        disagreement = rng.uniform(0, 0.3)
        share = rng.uniform(0.2, 0.8)
        annotated = np.clip(share + of * disagreement * rng.standard_normal(), 0, 1)
        evidence = np.array([0.1, disagreement, rng.uniform(0, 0.3)])
        positive = bool(annotated >= THRESHOLD)
        found.append(
            CalibrationSlide(f"P{number % count}", share, float(annotated), positive, evidence)
        )
    return found


def test_the_scale_is_of_what_the_errors_come_with():
    scale = fit_interval(slides(200), THRESHOLD, seed=1).scale
    assert scale.disagreement > 0.5
    assert scale.near_cut < 0.2 * scale.disagreement


def test_evidence_that_is_left_out_gets_no_weight_and_need_not_be_known():
    named = ("few_tiles", "near_cut")
    found = fit_interval(slides(200), THRESHOLD, evidence=named, seed=1)
    assert found.scale.disagreement == 0
    assert fit_interval(slides(200), THRESHOLD, evidence=EVIDENCE, seed=1) == fit_interval(
        slides(200), THRESHOLD, seed=1
    )
    known, unknown = np.array([0.1, 0.2, 0.3]), np.array([0.1, np.nan, 0.3])
    assert scale_of(known, found.scale) == scale_of(unknown, found.scale)


def test_a_residual_is_scaled_by_a_fit_without_its_patient():
    clean = slides(60, of=0.1)
    outlier = CalibrationSlide("outlier", 0.9, 0.0, False, np.array([0.1, 0.01, 0.0]))
    found = fit_interval([*clean, outlier], THRESHOLD, seed=1)
    number = max(found.patient)
    assert found.residuals[found.patient.index(number)] == max(found.residuals)


def test_nineteen_patients_are_the_fewest_for_95_percent():
    assert fewest_patients() == 19
    found = fit_interval(slides(19), THRESHOLD, seed=1)
    assert (found.slides, found.patients) == (19, 19)
    assert residual_quantile(found, "positive") == max(found.residuals)
    with pytest.raises(TooFewSlidesError, match="of 19 patients, and there are 18"):
        fit_interval(slides(18, slides_each=3), THRESHOLD, seed=1)


def test_the_same_slides_and_seed_give_the_same_calibration():
    assert fit_interval(slides(30), THRESHOLD, seed=1) == fit_interval(
        slides(30), THRESHOLD, seed=1
    )


def test_slides_without_any_error_have_a_calibration_too():
    perfect = [CalibrationSlide(f"P{n}", 0.2, 0.2, True, np.zeros(3)) for n in range(25)]
    assert fit_interval(perfect, THRESHOLD, seed=1).scale.base > 0


def with_calls(positive, negative):
    """Slides of as many patients; the positive calls are far off, the negative ones are right."""
    return [
        CalibrationSlide(f"P{n}", 0.5 if n < positive else 0.0, 0.0, False, np.zeros(3))
        for n in range(positive + negative)
    ]


def test_residuals_are_kept_apart_by_call_if_each_is_of_enough_patients():
    found = fit_interval(with_calls(19, 30), THRESHOLD, seed=1)
    assert (found.call.count("positive"), found.call.count("negative")) == (19, 30)
    assert residual_quantile(found, "negative") == 0 < residual_quantile(found, "positive")


def test_where_one_call_is_of_too_few_the_largest_of_its_errors_counts():
    found = fit_interval(with_calls(18, 400), THRESHOLD, seed=1)
    assert residual_quantile(found, "negative") == 0
    assert residual_quantile(found, "positive") == max(found.residuals)


def test_without_a_slide_of_one_call_all_count():
    found = fit_interval(with_calls(30, 0), THRESHOLD, seed=1)
    assert residual_quantile(found, "negative") == residual_quantile(found, "positive")


def with_statuses(positive, negative):
    """Slides of as many patients, all called negative: the positive ones are missed."""
    return [
        CalibrationSlide(f"P{n}", 0.0, 0.5 if n < positive else 0.0, n < positive, np.zeros(3))
        for n in range(positive + negative)
    ]


def test_missed_positives_count_as_often_as_in_the_population():
    # 5 of 50 are over 5 %, and of a population with a fifth of its positive slides they are not.
    as_they_are = fit_interval(with_statuses(5, 45), THRESHOLD, seed=1)
    weighted = fit_interval(with_statuses(5, 45), THRESHOLD, prevalence=0.02, seed=1)
    assert residual_quantile(as_they_are, "negative") > 0
    assert residual_quantile(weighted, "negative") == 0


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.9])
def test_a_population_with_more_positive_slides_never_has_narrower_intervals_where_they_are_missed(
    prevalence,
):
    found = [
        residual_quantile(
            fit_interval(with_statuses(30, 200), THRESHOLD, prevalence=each, seed=1), "negative"
        )
        for each in (prevalence / 2, prevalence)
    ]
    assert found[0] <= found[1]


def test_slides_of_one_status_cannot_be_weighted():
    with pytest.raises(TooFewSlidesError, match="of both HER2 statuses are needed"):
        fit_interval(with_statuses(0, 40), THRESHOLD, prevalence=0.1, seed=1)


def test_a_prevalence_that_gives_one_slide_too_much_weight_is_refused():
    with pytest.raises(TooFewSlidesError, match="42 patients are too few to weigh slides"):
        fit_interval(with_statuses(2, 40), THRESHOLD, prevalence=0.5, seed=1)
