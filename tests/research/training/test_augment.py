"""The paper's augmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2hed

from her2d.research.training.augment import augment, jitter_stain, mask_pixels, rotate

seeds = st.integers(0, 2**31)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (40, 40, 3), dtype=np.uint8)


@given(seeds, st.integers(0, 3), st.booleans())
def test_turning_moves_pixels_and_changes_none(seed, quarter, mirror):
    before = image(seed)
    after = rotate(before, quarter, mirror)
    assert sorted(map(tuple, before.reshape(-1, 3))) == sorted(map(tuple, after.reshape(-1, 3)))


@given(seeds)
def test_one_to_five_percent_of_pixels_are_masked(seed):
    hidden = (mask_pixels(image(seed), np.random.default_rng(seed)) == 0).all(axis=2).mean()
    assert 0.009 <= hidden <= 0.051


def test_one_tile_in_seven_is_masked_as_in_the_paper():
    rng = np.random.default_rng(0)
    plain = np.full((20, 20, 3), 200, np.uint8)
    masked = [(augment(plain, plain[..., 0], rng)[0] == 0).any() for _ in range(2000)]
    assert np.mean(masked) == pytest.approx(1 / 7, abs=0.02)


@given(seeds)
def test_image_and_mask_move_together(seed):
    # The image shows its mask: bright pixels are inside.
    mask = np.zeros((40, 40), np.uint8)
    mask[3:17, 5:30] = 1
    picture = np.where(mask[..., None] > 0, 250, 60).astype(np.uint8).repeat(3, axis=2)
    moved, moved_mask = augment(picture, mask, np.random.default_rng(seed))
    shown = (moved > 0).all(axis=2)
    assert np.array_equal((moved[..., 0] > 150)[shown], moved_mask[shown] > 0)


@given(seeds)
def test_the_same_seed_augments_the_same_way(seed):
    mask = image(seed)[..., 0]
    one, other = (augment(image(seed), mask, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


@given(seeds)
def test_restaining_varies_the_amounts_of_the_dyes(seed):
    # Half a unit of haematoxylin and of eosin.
    dyes = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    before = np.uint8(256 * np.exp(-0.5 * dyes) - 1)[None]
    after = jitter_stain(before, np.random.default_rng(seed), 0.15)
    amounts = [np.diag(rgb2hed(image / 255)[0]) for image in (before, after)]
    hematoxylin, eosin = amounts[1] / amounts[0]
    assert 0.8 < hematoxylin < 1.2
    assert 0.8 < eosin < 1.2


@given(seeds)
def test_restaining_shows_darker_greys_darker(seed):
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    stained = jitter_stain(ramp, np.random.default_rng(seed)).astype(int)
    assert (np.diff(stained, axis=1) >= 0).all()


def test_without_jitter_restaining_changes_nothing():
    before = image(0)
    assert (
        np.abs(jitter_stain(before, np.random.default_rng(0), 0.0).astype(int) - before).max() == 0
    )


@given(seeds)
def test_the_papers_augmentation_changes_no_colour_but_the_masked(seed):
    before = image(seed)
    after, _ = augment(before, before[..., 0], np.random.default_rng(seed))
    shown = after[(after > 0).any(axis=2)]
    assert set(map(tuple, shown)) <= set(map(tuple, before.reshape(-1, 3)))
