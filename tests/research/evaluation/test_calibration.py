"""Calibration of probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.evaluation.calibration import calibration


def test_a_probability_that_keeps_its_word_has_no_error():
    p = np.repeat([0.25, 0.75], 4)
    positive = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    found = calibration(p, positive)
    assert found.expected_error == pytest.approx(0)
    assert [(b.predicted, b.observed, b.tiles) for b in found.bins] == [
        (0.25, 0.25, 4),
        (0.75, 0.75, 4),
    ]


def test_certainty_that_is_always_wrong_has_every_error():
    found = calibration(np.ones(3), np.zeros(3, bool))
    assert (found.expected_error, found.brier) == (1, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_every_tile_is_in_one_bin_and_errors_are_shares(tiles):
    p, positive = (np.array(column) for column in zip(*tiles, strict=True))
    found = calibration(p, positive.astype(bool))
    assert sum(b.tiles for b in found.bins) == len(tiles)
    assert 0 <= found.expected_error <= 1
    assert 0 <= found.brier <= 1


def test_without_tiles_nothing_is_known():
    assert math.isnan(calibration(np.empty(0), np.empty(0, bool)).brier)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        calibration(np.array([1.2]), np.array([True]))
