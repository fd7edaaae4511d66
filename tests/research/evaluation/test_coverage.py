"""How often the interval of P holds the annotated share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from her2d.research.evaluation.coverage import coverage_rows, exact_interval, standardized


def test_the_exact_interval_is_clopper_and_pearsons():
    found = exact_interval(48, 50)
    # Quantiles of beta distributions (Clopper and Pearson 1934).
    limits = beta.ppf(0.025, 48, 50 - 48 + 1), beta.ppf(0.975, 48 + 1, 50 - 48)
    assert (found.value, found.low, found.high) == pytest.approx((0.96, *limits))


def test_all_covered_has_an_upper_limit_of_one_and_none_known_has_no_interval():
    # The lower limit of n of n is the n-th root of 0.025.
    found = exact_interval(20, 20)
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / 20)), 1)
    assert exact_interval(0, 0).value is None


def test_slides_are_counted_by_how_large_the_annotated_share_is():
    annotated = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 1.0, np.nan])
    low = np.array([0.0, 0.02, 0.0, 0.0, 0.1, 0.2, 0.0])
    high = np.array([0.1, 0.3, 0.1, 0.05, 0.3, 1.0, 1.0])
    rows = coverage_rows("external", annotated, low, high, positive=annotated >= 0.1)
    assert {row.band: (row.covered, row.slides) for row in rows} == {
        "all": (4, 6),
        "0 to 5 %": (1, 2),
        "5 to 20 %": (1, 2),
        "20 to 100 %": (2, 2),
    }


def test_bands_without_slides_and_sets_without_annotated_shares_have_no_rows():
    unknown = np.array([np.nan])
    unknown_status = np.array([False])
    assert coverage_rows("test", unknown, np.zeros(1), np.ones(1), positive=unknown_status) == ()


def test_coverage_is_standardized_to_the_share_of_positive_slides_that_it_is_for():
    positive = np.array([True] * 30 + [False] * 70)
    annotated = np.where(positive, 0.5, 0.0)
    low, high = np.zeros(100), np.where(np.arange(100) < 6, 0.1, 1.0)  # 6 positive ones not held
    whole, *bands = coverage_rows("test", annotated, low, high, positive=positive, prevalence=0.125)
    assert (whole.band, whole.share.value, whole.prevalence) == ("all", 0.94, 0.125)
    assert whole.standardized.value == pytest.approx(1 - 0.125 * 6 / 30)
    assert {row.standardized for row in bands} == {None}


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40),
    st.floats(0.01, 0.99),
)
def test_a_standardized_share_lies_within_its_limits(slides, prevalence):
    covered, positive = map(np.array, zip(*slides, strict=True))
    found = standardized(covered, positive, prevalence)
    if positive.all() or not positive.any():
        assert found.value is None
    else:
        assert 0 <= found.low <= found.value <= found.high <= 1
