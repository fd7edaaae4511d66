"""The interval of P where the bundle is not calibrated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from tumor_tiles import simulated_tiles, tiles_of

from her2d.pipeline.block_bootstrap import block_bootstrap_interval, jeffreys_interval

places = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 1 << 18), st.booleans()),
    min_size=1,
    max_size=40,
    unique_by=lambda tile: tile[:2],
)


def of(found):
    row, column, pixels, strong = zip(*found, strict=True)
    return tiles_of(row, column, strong, tumor_pixels=pixels)


def square(side, strong):
    row, column = np.indices((side, side)).reshape(2, -1)
    return tiles_of(row, column, strong(row, column))


def interval(tiles, seed=3):
    found = block_bootstrap_interval(tiles, seed=seed, resamples=200)
    return found.low, found.high


@settings(deadline=None, max_examples=50)
@given(places)
def test_the_interval_holds_p_lies_between_zero_and_one_and_has_a_width(found):
    tiles = of(found)
    low, high = interval(tiles)
    assert 0 <= low <= tiles.share <= high <= 1
    assert high > low


@settings(deadline=None, max_examples=20)
@given(places, st.randoms(use_true_random=False))
def test_the_order_of_tiles_does_not_change_the_interval(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    assert interval(of(shuffled)) == interval(of(found))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    some = square(12, lambda row, column: (row < 5) & (column < 7))
    assert interval(some, seed=1) == interval(some, seed=1)
    assert interval(some, seed=1) != interval(some, seed=2)


def test_eight_tumor_tiles_without_a_strong_one_do_not_exclude_a_positive_slide():
    low, high = interval(tiles_of([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3] * 2, [False] * 8))
    assert low == 0
    # Jeffreys' limit for eight independent tiles, and less is known of eight neighbours.
    assert high >= beta.ppf(0.975, 0.5, 8.5) > 0.10


def test_a_large_tumor_without_a_strong_tile_excludes_the_threshold():
    assert interval(square(12, lambda row, column: row < 0))[1] < 0.10


def test_strong_tiles_in_one_place_give_a_wider_interval_than_scattered_ones():
    scattered = interval(square(12, lambda row, column: (row % 2 == 0) & (column % 2 == 0)))
    together = interval(square(12, lambda row, column: (row < 6) & (column < 6)))
    assert together[1] - together[0] > 1.2 * (scattered[1] - scattered[0])


def test_more_tiles_narrow_the_interval():
    rng = np.random.default_rng(0)
    few, many = (
        interval(simulated_tiles(rng, tiles=tiles, share=0.25, length=0)) for tiles in (40, 4000)
    )
    assert many[1] - many[0] < (few[1] - few[0]) / 5


def test_a_slide_without_tumor_has_no_interval():
    with pytest.raises(ValueError, match="without tumour"):
        block_bootstrap_interval(tiles_of([], [], []), seed=0)


@pytest.mark.parametrize(("strong", "tiles"), [(1, 8), (3, 20), (19, 20), (50, 100)])
def test_jeffreys_interval_is_the_textbooks(strong, tiles):
    textbook = beta.ppf([0.025, 0.975], strong + 0.5, tiles - strong + 0.5)
    assert jeffreys_interval(strong / tiles, tiles) == pytest.approx(tuple(textbook))


def test_jeffreys_interval_ends_where_the_share_does():
    assert jeffreys_interval(0.0, 8) == (0.0, pytest.approx(beta.ppf(0.975, 0.5, 8.5)))
    assert jeffreys_interval(1.0, 8) == (pytest.approx(beta.ppf(0.025, 8.5, 0.5)), 1.0)
