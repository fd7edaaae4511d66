"""How a metric is written with its interval."""

import pytest

from her2d.calibration.proportion import NOT_DEFINED, Estimate
from her2d.research.evaluation.rows import Interval


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.9124, 0.8, 0.97051, "0.912 (0.800 to 0.971)"),
        (-0.01, -0.025, 0.0, "-0.010 (-0.025 to 0.000)"),
        (1.0, None, None, "1.000"),
        (None, None, None, None),
    ],
)
def test_a_metric_is_written_with_its_limits_where_it_has_them(value, low, high, text):
    assert Interval(value=value, low=low, high=high).text() == text


def test_a_metric_is_written_with_as_many_digits_as_are_asked_for():
    assert Interval.of(Estimate(0.9, 0.8, 0.95)).text(4) == "0.9000 (0.8000 to 0.9500)"


def test_a_metric_that_is_not_defined_has_no_text():
    assert Interval.of(NOT_DEFINED).text() is None
