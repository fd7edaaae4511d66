"""What an epoch sees follows from the seed and the epoch alone."""

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


def drawn(of: EpochSampler, epoch: int) -> list:
    of.set_epoch(epoch)
    return list(of)


@given(st.integers(0, 50))
def test_every_tile_is_seen_once_an_epoch(epoch):
    assert sorted(draw.index for draw in drawn(sampler(), epoch)) == INDICES.tolist()


def test_an_epoch_is_the_same_whatever_ran_before_it():
    fresh, used = sampler(), sampler()
    for epoch in range(3):
        drawn(used, epoch)
    assert drawn(fresh, 3) == drawn(used, 3)


def test_epochs_differ_and_so_do_seeds():
    assert drawn(sampler(), 0) != drawn(sampler(), 1)
    assert drawn(sampler(), 0) != drawn(sampler(seed=2), 0)


def test_balanced_draws_both_classes_as_often():
    found = drawn(sampler(sampling="balanced", tiles=100), 0)
    assert sum(draw.index in INDICES[SECOND] for draw in found) == 50


@given(st.integers(1, 4), st.integers(0, 5))
def test_processes_share_an_epoch_without_doubles(world, epoch):
    parts = [drawn(sampler(rank=rank, world=world), epoch) for rank in range(world)]
    together = [draw.index for part in parts for draw in part]
    assert len(set(together)) == len(together) == 20 // world * world


def test_an_epoch_longer_than_the_tiles_goes_round_again():
    found = [draw.index for draw in drawn(sampler(tiles=50), 0)]
    assert len(found) == 50
    assert all(found.count(index) in (2, 3) for index in INDICES)


def test_a_class_without_tiles_cannot_be_balanced():
    with pytest.raises(ValueError, match="no tiles of one class"):
        EpochSampler(INDICES, SECOND & False, sampling="balanced", tiles=None, seed=0)
