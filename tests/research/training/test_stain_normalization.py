"""Stain normalisation: a slide's stain is measured, and its pixels are given another's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.training.stain_normalization import (
    StainError,
    macenko_look,
    reinhard_look,
)

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.10, 0.93, 0.34])
EOSIN = EOSIN / np.linalg.norm(EOSIN)
HEMATOXYLIN = HEMATOXYLIN / np.linalg.norm(HEMATOXYLIN)
PINKER = np.array([0.2, 0.88, 0.43]) / np.linalg.norm([0.2, 0.88, 0.43])


def tissue(hematoxylin, eosin, strength=1.0, seed=0):
    """Pixels with all mixtures of two dyes, uint8 (64, 64, 3)."""
    amounts = np.random.default_rng(seed).uniform(0.3, strength, (64, 64, 2))
    density = amounts @ np.array([hematoxylin, eosin])
    return np.uint8(256 * np.exp(-density) - 1)


def degrees(one, other):
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


@given(st.floats(0.6, 1.6), st.integers(0, 1000))
def test_macenko_finds_the_two_dyes_at_any_strength(strength, seed):
    density = np.random.default_rng(seed).uniform(0.3, 1.5, (4000, 2)) * strength
    density[:400, 0] = 0
    density[400:800, 1] = 0
    pixels = np.uint8(256 * np.exp(-(density @ np.array([HEMATOXYLIN, EOSIN]))) - 1)[None]
    look = macenko_look([pixels])
    # Pixels that lack one dye are tissue only where the other absorbs every channel.
    assert degrees(look.vectors[0], HEMATOXYLIN) < 6
    assert degrees(look.vectors[1], EOSIN) < 12


@pytest.mark.parametrize("measure", [macenko_look, reinhard_look])
def test_a_slide_turned_into_its_own_stain_stays_as_it_is(measure):
    image = tissue(HEMATOXYLIN, EOSIN)
    look = measure([image])
    change = np.abs(look.turned_into(look, image).astype(int) - image)
    # Macenko leaves out what two dyes do not explain; L*a*b* in bytes rounds.
    assert np.percentile(change, 90) <= 6


@pytest.mark.parametrize("measure", [macenko_look, reinhard_look])
def test_a_slide_turned_into_another_stain_is_measured_as_that_one(measure):
    one, other = tissue(HEMATOXYLIN, EOSIN), tissue(HEMATOXYLIN, PINKER, strength=1.3, seed=1)
    before = np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1)))
    turned = measure([one]).turned_into(measure([other]), one)
    after = np.abs(turned.mean(axis=(0, 1)) - other.mean(axis=(0, 1)))
    assert after.sum() < before.sum() / 2


@pytest.mark.parametrize("measure", [macenko_look, reinhard_look])
def test_glass_has_no_stain_to_measure(measure):
    with pytest.raises(StainError, match="too little tissue"):
        measure([np.full((64, 64, 3), 244, np.uint8)])
