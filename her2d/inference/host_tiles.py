"""Tiles in this machine's own memory, for engines that have no other."""

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
        """Memory returns when nobody refers to it."""


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Uploaded tiles that went nowhere."""

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
        """Memory returns when nobody refers to it."""


def stacked(tiles: Sequence[KeptTile]) -> Tiles:
    """Kept tiles as one array. Raises TypeError for another engine's."""
    pixels = []
    for tile in tiles:
        if not isinstance(tile, HostTile):
            raise TypeError("the tile was kept by another engine")
        pixels.append(tile.pixels)
    return np.stack(pixels)
