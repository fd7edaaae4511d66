"""The cut of P from which slides are sent to IHC."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.calibration.ihc_zone import fewest_positive_patients, find_ihc_cut

THRESHOLD = 0.10


def each(number: int) -> list[str]:
    return [f"P{n}" for n in range(number)]


def cut_of(percent, sensitivity, patient=None):
    share = np.array(percent) / 100
    return find_ihc_cut(share, patient or each(len(share)), sensitivity, THRESHOLD)


@pytest.mark.parametrize(
    ("sensitivity", "patients"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.98, 49), (0.99, 99)]
)
def test_the_fewest_patients_follow_from_the_wanted_sensitivity(sensitivity, patients):
    assert fewest_positive_patients(sensitivity) == patients
    cut_of(np.linspace(1, 50, patients), sensitivity)
    if patients > 1:
        with pytest.raises(ValueError, match=f"needs HER2-positive slides of {patients} patients"):
            cut_of(np.linspace(1, 50, patients - 1), sensitivity)


def test_with_the_fewest_patients_no_positive_slide_may_be_missed():
    assert cut_of([3, *range(20, 38)], 0.95).share == pytest.approx(0.03)


def test_one_may_be_missed_as_soon_as_there_are_twice_as_many_and_one():
    percent = [1, 4, *range(20, 56)]
    assert cut_of(percent, 0.95).share == pytest.approx(0.01)
    assert cut_of([*percent, 60], 0.95).share == pytest.approx(0.04)


def test_slides_with_the_same_p_are_missed_together():
    assert cut_of([1, 1, 4, *range(20, 56)], 0.95).share == pytest.approx(0.01)


def test_the_cut_is_the_threshold_at_most():
    found = cut_of(range(20, 60), 0.95)
    assert found.share == THRESHOLD
    assert found.sensitivity_at_least == pytest.approx(0.05 ** (1 / 40))


def test_ten_slides_of_a_patient_count_as_one():
    percent, patient = np.repeat([1, 4, *range(20, 57)], 10), list(np.repeat(each(39), 10))
    found = cut_of(percent, 0.95, patient)
    assert (found.slides, found.patients) == (390, 39)
    assert found.share == cut_of(percent[::10], 0.95).share


@given(st.integers(19, 200), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 1000))
def test_a_higher_sensitivity_never_sends_fewer_slides(slides, sensitivity, seed):
    share = np.random.default_rng(seed).beta(0.5, 2, slides)
    low, high = (find_ihc_cut(share, each(slides), s, 1.0) for s in (0.7, sensitivity))
    assert high.share <= low.share
    assert (share < high.share).sum() <= (1 - sensitivity) * (slides + 1) - 1 + 1e-9


@pytest.mark.parametrize("sensitivity", [0.0, 1.0, 95])
def test_a_sensitivity_is_a_share(sensitivity):
    with pytest.raises(ValueError, match="between 0 and 1"):
        cut_of([1], sensitivity)
