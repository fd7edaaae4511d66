"""The tiles of an epoch depend on the seed and the epoch only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.training.sampling import EpochSampler

INDICES = np.arange(10, 30)
SECOND = np.arange(20) < 4


def sampler(**changes) -> EpochSampler:
    return EpochSampler(
        INDICES, SECOND, **({"sampling": "as_is", "tiles": None, "seed": 1} | changes)
    )


def sampled(of: EpochSampler, epoch: int) -> list:
    of.set_epoch(epoch)
    return list(of)


@given(st.integers(0, 50))
def test_every_tile_is_seen_once_an_epoch(epoch):
    assert sorted(tile.index for tile in sampled(sampler(), epoch)) == INDICES.tolist()


def test_an_epoch_does_not_depend_on_earlier_epochs():
    fresh, used = sampler(), sampler()
    for epoch in range(3):
        sampled(used, epoch)
    assert sampled(fresh, 3) == sampled(used, 3)


def test_epochs_differ_and_so_do_seeds():
    assert sampled(sampler(), 0) != sampled(sampler(), 1)
    assert sampled(sampler(), 0) != sampled(sampler(seed=2), 0)


def test_balanced_sampling_takes_both_classes_equally_often():
    found = sampled(sampler(sampling="balanced", tiles=100), 0)
    assert sum(tile.index in INDICES[SECOND] for tile in found) == 50


@given(st.integers(1, 4), st.integers(0, 5))
def test_processes_share_an_epoch_without_doubles(world, epoch):
    parts = [sampled(sampler(rank=rank, world=world), epoch) for rank in range(world)]
    together = [tile.index for part in parts for tile in part]
    assert len(set(together)) == len(together) == 20 // world * world


def test_an_epoch_longer_than_the_tiles_goes_round_again():
    found = [tile.index for tile in sampled(sampler(tiles=50), 0)]
    assert len(found) == 50
    assert all(found.count(index) in (2, 3) for index in INDICES)


def test_a_class_without_tiles_cannot_be_balanced():
    with pytest.raises(ValueError, match="no tiles of one class"):
        EpochSampler(INDICES, SECOND & False, sampling="balanced", tiles=None, seed=0)
