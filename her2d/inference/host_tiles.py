"""Tiles in host memory, and the engine of the libraries that compute on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import EngineError, KeptTile, Segmentation, Tiles
from her2d.inference.options import BatchSizes
from her2d.inference.separate_folds import SeparateFolds, side_by_side
from her2d.system.cpu_share import CpuShare


@dataclass(frozen=True, slots=True)
class HostTile:
    """A kept tile: uint8 (512, 512, 3) RGB."""

    pixels: NDArray[np.uint8]

    def release(self) -> None:
        """Do nothing: the memory is freed with the last reference to it."""


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Tiles that need no upload, uint8 (N, 512, 512, 3), and the function that segments them."""

    tiles: Tiles
    segmenter: Callable[[Tiles], Segmentation]

    def __len__(self) -> int:
        return len(self.tiles)

    def segment(self) -> Segmentation:
        return self.segmenter(self.tiles)

    def keep(self, index: int) -> HostTile:
        # A view would hold the whole batch for one tile.
        return HostTile(self.tiles[index].copy())

    def release(self) -> None:
        """Do nothing: the memory is freed with the last reference to it."""


def stacked(tiles: Sequence[KeptTile]) -> Tiles:
    """Stack kept tiles into uint8 (N, 512, 512, 3).

    Raises:
        TypeError: a tile was kept by another engine.
    """
    pixels = []
    for tile in tiles:
        if not isinstance(tile, HostTile):
            raise TypeError("the tile was kept by another engine")
        pixels.append(tile.pixels)
    return np.stack(pixels)


class HostNetwork(Protocol):
    """One graph, loaded by a library that computes on the CPU. One thread calls it at a time."""

    def run(self, tiles: Tiles) -> list[Any]:
        """Compute the graph's outputs for tiles, in their agreed order. Raises EngineError."""
        ...


def shares(tiles: Tiles, calls: int) -> list[Tiles]:
    """Divide tiles, N >= 1, among at most that many calls, as evenly as possible."""
    return np.array_split(tiles, min(calls, len(tiles)))


def joined(outputs: Sequence[list[Any]]) -> list[Any]:
    """Put together the outputs of the calls that a batch was divided among."""
    if len(outputs) == 1:
        return outputs[0]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def p_strong_of(network: HostNetwork, tiles: Tiles) -> NDArray[np.float32]:
    """Return p(strong) by each classifier in a network, float32 (N, K). Raises EngineError."""
    p_strong: NDArray[np.float32]
    (p_strong,) = network.run(tiles)
    return p_strong


class HostTileEngine:
    """A segmenter that takes tiles from host memory, and what every engine on the CPU has.

    Each network's call uses all threads that the engine may have, so networks take turns.

    Args:
        segmenter: the loaded graph.
        backend: name of back end and precision, as recorded with each result.
        threads: of each network.
        batches: how many tiles to pass to each network at once.
    """

    def __init__(
        self, segmenter: HostNetwork, backend: str, threads: int, batches: BatchSizes
    ) -> None:
        self._segmenter = segmenter
        self._backend = backend
        self._batches = batches
        self._cpus = CpuShare(threads)

    @property
    def backend(self) -> str:
        return self._backend

    @property
    def batches(self) -> BatchSizes:
        return self._batches

    @property
    def cpus(self) -> CpuShare:
        return self._cpus

    def segment(self, tiles: Tiles) -> Segmentation:
        with self._cpus.engine():
            tumor_pixels, mask = self._segmenter.run(tiles)
        return Segmentation(tumor_pixels, mask)

    def upload(self, tiles: Sequence[NDArray[np.uint8]]) -> HostBatch:
        return HostBatch(np.stack(tiles), self.segment)

    def close(self) -> None:
        del self._segmenter


class HostEngine(HostTileEngine):
    """HER2Net's two networks on the CPU.

    Args:
        segmenter, classifiers: the loaded graphs.
        backend, threads, batches: as for `HostTileEngine`.
        folds: the sub-classifiers' networks, which replace `classifiers` where they can be run one
            by one.
    """

    def __init__(
        self,
        segmenter: HostNetwork,
        classifiers: HostNetwork,
        backend: str,
        threads: int,
        batches: BatchSizes,
        folds: SeparateFolds[HostNetwork] | None = None,
    ) -> None:
        super().__init__(segmenter, backend, threads, batches)
        self._folds = folds or SeparateFolds()
        # Their weights are not held twice.
        self._classifiers = self._folds.networks or (classifiers,)

    def classify(self, tiles: Tiles) -> NDArray[np.float32]:
        with self._cpus.engine():
            return side_by_side(self._classifiers, tiles, p_strong_of)

    def classify_kept(self, tiles: Sequence[KeptTile]) -> NDArray[np.float32]:
        return self.classify(stacked(tiles))

    def separate_folds_problem(self, full_batch: int) -> str | None:
        return self._folds.problem_for(full_batch)

    def classify_fold(self, tiles: Sequence[KeptTile], fold: int) -> NDArray[np.float32]:
        if self._folds.problem is not None:
            raise EngineError(self._folds.problem)
        with self._cpus.engine():
            return p_strong_of(self._folds.networks[fold], stacked(tiles))[:, 0]

    def close(self) -> None:
        super().close()
        del self._classifiers, self._folds
