"""How often the interval of P holds the annotated share."""

import numpy as np
import pytest
from scipy.stats import beta

from her2d.research.evaluation.coverage import coverage_rows, exact_interval


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
    rows = coverage_rows("external", annotated, low, high)
    assert {row.band: (row.covered, row.slides) for row in rows} == {
        "all": (4, 6),
        "0 to 5 %": (1, 2),
        "5 to 20 %": (1, 2),
        "20 to 100 %": (2, 2),
    }


def test_bands_without_slides_and_sets_without_annotated_shares_have_no_rows():
    unknown = np.array([np.nan])
    assert coverage_rows("test", unknown, np.zeros(1), np.ones(1)) == ()
