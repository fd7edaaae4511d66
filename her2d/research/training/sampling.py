"""Which tiles an epoch sees, in what order and how changed: all from the seed and the epoch.

Nothing depends on what ran before, so training that is resumed sees what it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from her2d.research.training.augment import augment
from her2d.research.training.tile_store import TILE, TileStore


@dataclass(frozen=True, slots=True)
class SampledTile:
    """One tile's turn: which, and the seed of its augmentation."""

    index: int
    seed: tuple[int, ...]


Sample: TypeAlias = tuple[Tensor, Tensor]
"""uint8 (crop, crop, 3) pixels, and what is to be learned of them: int64."""


class EpochSampler(Sampler[SampledTile]):
    """An epoch's draws for one of `world` processes.

    Args:
        indices: int64 (T,), tiles that may be drawn.
        of_second: bool (T,), their class.
        sampling: `as_is` takes every tile once, in random order; `balanced` draws the two classes
            in turn, with replacement.
        tiles: how many an epoch holds in all; None is T.
        seed: the same seed and epoch give the same draws.
        rank, world: which of how many processes.

    Raises:
        ValueError: there is nothing to draw, or balanced sampling lacks a class.
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
        """Lightning calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._tiles // self._world

    def __iter__(self) -> Iterator[SampledTile]:
        drawn = self._drawn()
        for turn in range(self._rank, len(self) * self._world, self._world):
            yield SampledTile(int(drawn[turn]), (self._seed, self._epoch, turn))

    def _drawn(self) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, self._epoch))
        if self._sampling == "balanced":
            drawn = np.empty(self._tiles, np.int64)
            for number, group in enumerate(self._groups):
                drawn[number::2] = rng.choice(group, len(drawn[number::2]))
            return drawn
        rounds = -(-self._tiles // len(self._indices))
        shuffled = [rng.permutation(self._indices) for _ in range(rounds)]
        return np.concatenate(shuffled)[: self._tiles]


class AugmentedTiles(Dataset[Sample]):
    """Tiles cropped and augmented as their draw says.

    Args:
        store: prepared tiles.
        target: `mask`, (crop, crop), or `strong`, ().
        crop: side of what is cut out at random.
        stain_jitter: see `augment`.
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

    def __getitem__(self, draw: SampledTile) -> Sample:
        rng = np.random.default_rng(draw.seed)
        y, x = rng.integers(0, TILE - self._crop + 1, 2)
        window = np.s_[y : y + self._crop, x : x + self._crop]
        image, mask = augment(
            self._store.pixels(draw.index)[window],
            self._store.tumor(draw.index)[window],
            rng,
            stain_jitter=self._stain_jitter,
        )
        return torch.from_numpy(image), _target(self._store, self._target, draw.index, mask)


class PlainTiles(Dataset[Sample]):
    """Whole tiles as they are, the `indices` of a store in their order."""

    def __init__(
        self, store: TileStore, target: Literal["mask", "strong"], indices: NDArray[np.int64]
    ) -> None:
        self._store, self._target, self._indices = store, target, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> Sample:
        index = int(self._indices[number])
        mask = self._store.tumor(index)
        pixels = torch.from_numpy(self._store.pixels(index))
        return pixels, _target(self._store, self._target, index, mask)


def _target(
    store: TileStore, target: Literal["mask", "strong"], index: int, mask: NDArray[np.uint8]
) -> Tensor:
    if target == "mask":
        return torch.from_numpy(mask.astype(np.int64))
    return torch.tensor(int(store.table.strong[index]))
