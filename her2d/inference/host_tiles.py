"""Tiles in host memory, for engines that run on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import KeptTile, Segmentation, Tiles


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
