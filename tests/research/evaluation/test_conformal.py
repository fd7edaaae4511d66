"""Fitting the calibration of P's interval."""

import numpy as np
import pytest

from her2d.method import THRESHOLD
from her2d.pipeline.conformal import EVIDENCE, residual_quantile, scale_of
from her2d.research.evaluation.conformal import (
    CalibrationSlide,
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
        found.append(CalibrationSlide(f"P{number % count}", share, float(annotated), evidence))
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
    outlier = CalibrationSlide("outlier", 0.9, 0.0, np.array([0.1, 0.01, 0.0]))
    found = fit_interval([*clean, outlier], THRESHOLD, seed=1)
    number = max(found.patient)
    assert found.residuals[found.patient.index(number)] == max(found.residuals)


def test_nineteen_patients_are_the_fewest_for_95_percent():
    assert fewest_patients() == 19
    found = fit_interval(slides(19), THRESHOLD, seed=1)
    assert (found.slides, found.patients) == (19, 19)
    assert residual_quantile(found, "positive") == max(found.residuals)
    with pytest.raises(ValueError, match="needs 19 patients, and there are 18"):
        fit_interval(slides(18, slides_each=3), THRESHOLD, seed=1)


def test_the_same_slides_and_seed_give_the_same_calibration():
    assert fit_interval(slides(30), THRESHOLD, seed=1) == fit_interval(
        slides(30), THRESHOLD, seed=1
    )


def test_slides_without_any_error_have_a_calibration_too():
    perfect = [CalibrationSlide(f"P{n}", 0.2, 0.2, np.zeros(3)) for n in range(25)]
    assert fit_interval(perfect, THRESHOLD, seed=1).scale.base > 0


def with_calls(positive, negative):
    """Slides of as many patients; the positive calls are far off, the negative ones are right."""
    return [
        CalibrationSlide(f"P{n}", 0.5 if n < positive else 0.0, 0.0, np.zeros(3))
        for n in range(positive + negative)
    ]


def test_residuals_are_kept_apart_by_call_if_each_is_of_enough_patients():
    found = fit_interval(with_calls(19, 30), THRESHOLD, seed=1)
    assert (found.call.count("positive"), found.call.count("negative")) == (19, 30)
    assert residual_quantile(found, "negative") == 0 < residual_quantile(found, "positive")


@pytest.mark.parametrize(("positive", "negative"), [(18, 30), (30, 18), (0, 40)])
def test_they_are_put_together_if_one_call_is_of_too_few(positive, negative):
    found = fit_interval(with_calls(positive, negative), THRESHOLD, seed=1)
    assert found.call == ()
    assert residual_quantile(found, "negative") == residual_quantile(found, "positive")
