"""Which slides and tiles Figures 3 and 4 show."""

import numpy as np
import pytest

from her2d.pipeline.outcome import TileClass
from her2d.research.evaluation.slide_pictures import Outcome, four_of, telling_tile

N, W, S = TileClass.NON_TUMOR, TileClass.WEAK, TileClass.STRONG
NONE = np.zeros((2, 3), bool)


def test_three_positive_slides_and_a_negative_one_are_shown():
    assert four_of(["a", "b", "c", "d"], ["x", "y"]) == ["a", "b", "c", "x"]


def test_where_one_kind_is_rare_the_other_fills_the_figure():
    assert four_of(["a", "b", "c", "d", "e"], []) == ["a", "b", "c", "d"]
    assert four_of(["a"], ["x", "y", "z", "w"]) == ["a", "x", "y", "z"]
    assert four_of([], []) == []


@pytest.mark.parametrize(
    ("true", "predicted", "outcome"),
    [
        ("positive", "positive", Outcome.TRUE_POSITIVE),
        ("positive", "negative", Outcome.FALSE_NEGATIVE),
        ("negative", "positive", Outcome.FALSE_POSITIVE),
        ("negative", "negative", Outcome.TRUE_NEGATIVE),
        ("positive", "indeterminate", None),
        ("indeterminate", "positive", None),
    ],
)
def test_a_slide_with_a_status_and_a_call_has_an_outcome(true, predicted, outcome):
    assert Outcome.of(true, predicted) is outcome


def test_the_tumour_tile_with_the_highest_probability_is_shown():
    tile_class = np.array([[N, W, S], [W, N, W]], np.uint8)
    p = np.array([[0.99, 0.3, 0.6], [0.5, np.nan, 0.1]], np.float32)
    assert telling_tile(tile_class, p, NONE) == (2, 0)


def test_of_missed_tiles_the_one_nearest_to_strong_is_shown():
    tile_class = np.array([[N, W, S], [W, N, W]], np.uint8)
    p = np.array([[np.nan, 0.3, 0.6], [0.4, np.nan, 0.1]], np.float32)
    missed = np.array([[True, True, True], [False, False, True]])
    assert telling_tile(tile_class, p, missed) == (1, 0)


def test_a_strong_tile_that_was_certain_early_comes_first():
    tile_class = np.array([[W, S, W], [N, N, N]], np.uint8)
    p = np.array([[0.4, np.nan, np.nan], [np.nan] * 3], np.float32)
    assert telling_tile(tile_class, p, NONE) == (1, 0)


def test_without_tumour_no_tile_is_shown():
    tile_class = np.full((2, 3), N, np.uint8)
    assert telling_tile(tile_class, np.full((2, 3), np.nan, np.float32), NONE) is None
