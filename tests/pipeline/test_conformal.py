"""The calibrated interval of P."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tumor_tiles import simulated_tiles, tiles_of

from her2d.bundle.manifest import Interval, IntervalScale
from her2d.method import THRESHOLD
from her2d.pipeline.conformal import conformal_interval, evidence_of_doubt, residual_quantile

CUT = 0.5


def calibration(residuals=None, patient=None, call=(), **scale) -> Interval:
    residuals = np.linspace(0.0, 3.0, 40) if residuals is None else residuals
    patient = range(len(residuals)) if patient is None else patient
    return Interval(
        slides=len(residuals),
        patients=len(set(patient)),
        residuals=tuple(map(float, residuals)),
        patient=tuple(patient),
        call=call,
        scale=IntervalScale(
            **{"base": 0.02, "few_tiles": 0.2, "disagreement": 0.5, "near_cut": 0.5, **scale}
        ),
    )


def width(tiles, found=None, cut=CUT):
    interval = conformal_interval(tiles, found or calibration(), cut, THRESHOLD)
    return interval.high - interval.low


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 60),
    st.floats(0.0, 1.0),
    st.floats(0.0, 3.0),
    st.integers(0, 100),
)
def test_the_interval_holds_p_lies_between_zero_and_one_and_has_a_width(tiles, share, most, seed):
    found = simulated_tiles(np.random.default_rng(seed), tiles=tiles, share=share, length=0)
    interval = conformal_interval(found, calibration(np.linspace(0, most, 40)), CUT, THRESHOLD)
    assert 0 <= interval.low <= found.share <= interval.high <= 1
    assert interval.high - interval.low > 0.0005
    assert interval.calibrated


def test_more_tiles_narrow_the_interval():
    few, many = (tiles_of(range(n), range(n), [True, False] * (n // 2)) for n in (8, 200))
    assert width(many) < width(few)


def test_folds_that_disagree_widen_the_interval():
    strong = [True, False] * 10
    agreed = tiles_of(range(20), range(20), strong)
    folds = np.clip(agreed.p_folds + np.array([-0.4, -0.2, 0.0, 0.2, 0.4]), 0, 1)
    assert width(tiles_of(range(20), range(20), strong, p_folds=folds)) > 1.2 * width(agreed)


def test_tiles_near_the_bundles_cut_widen_the_interval():
    strong = [True, False] * 10
    clear = tiles_of(range(20), range(20), strong)
    near = tiles_of(range(20), range(20), strong, p_strong=np.where(strong, 0.31, 0.29))
    assert width(near, cut=0.3) > 1.5 * width(clear, cut=0.3)


def test_evidence_of_doubt_weighs_tiles_by_their_tumor():
    tiles = tiles_of(
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [True, False, False, False],
        tumor_pixels=[3, 1, 1, 1],
        p_strong=[0.6, 0.1, 0.1, 0.1],
        p_folds=np.array([[0.6] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], [0.1] * 5, [0.1] * 5]),
    )
    assert evidence_of_doubt(tiles, CUT) == pytest.approx([0.5, math.sqrt(0.02) / 6, 0.5])


def test_the_quantile_is_that_of_one_more_slide():
    assert residual_quantile(calibration(range(1, 20)), "negative") == 19.0
    assert residual_quantile(calibration(range(1, 41)), "negative") == 39.0
    assert residual_quantile(calibration(range(1, 101)), "negative") == 96.0


def test_a_patient_with_many_slides_weighs_as_much_as_any_other():
    once = residual_quantile(calibration(range(1, 41)), "negative")
    many = calibration([*range(1, 41), *[40.0] * 30], [*range(40), *[39] * 30])
    often = residual_quantile(many, "negative")
    assert often == once


def test_a_slide_without_tumor_has_no_interval():
    with pytest.raises(ValueError, match="without tumour"):
        conformal_interval(tiles_of([], [], []), calibration(), CUT, THRESHOLD)


CALLS = ("negative",) * 40 + ("positive",) * 20


def test_a_slide_is_compared_with_those_that_are_called_as_it_is():
    found = calibration([*range(40), *range(100, 120)], call=CALLS)
    assert residual_quantile(found, "negative") == 38
    assert residual_quantile(found, "positive") == 119


@given(st.lists(st.floats(0, 10), min_size=20, max_size=20), st.floats(0, 10))
def test_what_is_called_positive_does_not_change_the_interval_of_a_negative_slide(others, change):
    tiles = tiles_of(range(20), range(20), [False] * 20)
    found = [
        conformal_interval(tiles, calibration([*range(40), *residuals], call=CALLS), CUT, THRESHOLD)
        for residuals in (others, [residual + change for residual in others])
    ]
    assert found[0] == found[1]


@settings(deadline=None, max_examples=20)
@given(st.integers(20, 50), st.integers(20, 50), st.randoms(use_true_random=False))
def test_of_slides_with_either_call_95_in_100_are_held(negative, positive, random):
    # By exchangeability: of n residuals and one more, the quantile of the n holds at least 95 %.
    residuals = [random.random() + (5 if n >= negative else 0) for n in range(negative + positive)]
    calls = ("negative",) * negative + ("positive",) * positive
    held = dict.fromkeys(("negative", "positive"), 0)
    for left_out, (residual, call) in enumerate(zip(residuals, calls, strict=True)):
        rest = [n for n in range(len(calls)) if n != left_out]
        found = calibration([residuals[n] for n in rest], call=tuple(calls[n] for n in rest))
        held[call] += residual <= residual_quantile(found, call)
    assert held["negative"] >= 0.95 * negative
    assert held["positive"] >= 0.95 * positive
