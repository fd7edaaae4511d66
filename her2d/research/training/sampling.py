"""Sample the tiles of an epoch and their augmentation from the seed and the epoch alone.

Nothing depends on earlier epochs, so resumed training sees the tiles that uninterrupted training
would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from her2d.method import TILE_PX
from her2d.research.training.augment import augment
from her2d.research.training.padding import outside_scan
from her2d.research.training.tile_store import TileStore

PADDING = -1
"""Target of pixels outside the scan, which validation does not count."""


@dataclass(frozen=True, slots=True)
class SampledTile:
    """The index of a sampled tile in the store, and the seed of its augmentation."""

    index: int
    seed: tuple[int, ...]


Sample: TypeAlias = tuple[Tensor, Tensor]
"""Pixels, uint8 (crop, crop, 3) RGB, and their target, int64 (crop, crop) or ()."""


class EpochSampler(Sampler[SampledTile]):
    """Sample the tiles of an epoch for one of `world` processes.

    Args:
        indices: Indices of the tiles to sample from, int64 (T,).
        of_second: Whether each tile is of the second class, bool (T,).
        sampling: `as_is` takes every tile once, in random order; `balanced` takes tiles of the two
            classes alternately, with replacement.
        tiles: Tiles per epoch over all processes; None means T.
        seed: The same seed and epoch give the same tiles.
        rank: Number of this process, from 0.
        world: Number of processes.

    Raises:
        ValueError: There are no tiles, or balanced sampling lacks tiles of one class.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        of_second: NDArray[np.bool_],
        *,
        sampling: Literal["as_is", "balanced"],
        tiles: int | None,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._groups = [indices[of_second], indices[~of_second]]
        if not len(indices) or (sampling == "balanced" and not all(map(len, self._groups))):
            raise ValueError("there are no tiles of one class to learn from")
        self._indices, self._sampling = indices, sampling
        self._tiles = tiles or len(indices)
        self._seed, self._epoch, self._rank, self._world = seed, 0, rank, world

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0; Lightning calls this before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._tiles // self._world

    def __iter__(self) -> Iterator[SampledTile]:
        indices = self._sample()
        for number in range(self._rank, len(self) * self._world, self._world):
            yield SampledTile(int(indices[number]), (self._seed, self._epoch, number))

    def _sample(self) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, self._epoch))
        if self._sampling == "balanced":
            sampled = np.empty(self._tiles, np.int64)
            for number, group in enumerate(self._groups):
                sampled[number::2] = rng.choice(group, len(sampled[number::2]))
            return sampled
        rounds = -(-self._tiles // len(self._indices))
        shuffled = [rng.permutation(self._indices) for _ in range(rounds)]
        return np.concatenate(shuffled)[: self._tiles]


class AugmentedTiles(Dataset[Sample]):
    """Crop and augment sampled tiles.

    Args:
        store: The prepared tiles.
        target: `mask` for the tumour mask, (crop, crop), or `strong` for the class of the tile, ().
        crop: Side of the random crop in pixels.
        stain_jitter: Largest relative change of the amounts of the dyes, see `augment`.
    """

    def __init__(
        self,
        store: TileStore,
        target: Literal["mask", "strong"],
        *,
        crop: int,
        stain_jitter: float,
    ) -> None:
        self._store, self._target = store, target
        self._crop, self._stain_jitter = crop, stain_jitter

    def __getitem__(self, sampled: SampledTile) -> Sample:
        rng = np.random.default_rng(sampled.seed)
        y, x = rng.integers(0, TILE_PX - self._crop + 1, 2)
        window = np.s_[y : y + self._crop, x : x + self._crop]
        image, mask = augment(
            self._store.pixels(sampled.index)[window],
            self._store.tumor(sampled.index)[window],
            rng,
            stain_jitter=self._stain_jitter,
        )
        return torch.from_numpy(image), _target(self._store, self._target, sampled.index, mask)


class PlainTiles(Dataset[Sample]):
    """Whole tiles without augmentation, in the order of `indices`.

    In masks, the padding of tiles at the scan's edge is of the class PADDING, which is neither.

    Args:
        store: The prepared tiles.
        target: `mask` or `strong`, as in `AugmentedTiles`.
        indices: Indices of tiles in the store, int64.
    """

    def __init__(
        self, store: TileStore, target: Literal["mask", "strong"], indices: NDArray[np.int64]
    ) -> None:
        self._store, self._target, self._indices = store, target, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> Sample:
        index = int(self._indices[number])
        pixels = self._store.pixels(index)
        target = _target(self._store, self._target, index, self._store.tumor(index))
        if self._target == "mask":
            target[torch.from_numpy(outside_scan(pixels[None])[0])] = PADDING
        return torch.from_numpy(pixels), target


def _target(
    store: TileStore, target: Literal["mask", "strong"], index: int, mask: NDArray[np.uint8]
) -> Tensor:
    if target == "mask":
        return torch.from_numpy(mask.astype(np.int64))
    return torch.tensor(int(store.table.strong[index]))
