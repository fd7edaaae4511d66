"""The tile grid: non-overlapping 512 x 512 tiles at 4x objective magnification."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX


@dataclass(frozen=True)
class TileGrid:
    """Where tiles lie; pixels are those of the grid's own scale, 4x (paper, section 4.2).

    Attributes:
        columns, rows: tiles across and down.
        width, height: pixels of the slide at the grid's scale, without padding.
        tile_size: pixels along a tile's side.
        um_per_px: micrometres per grid pixel; 2.5, the nominal value, where the scan has no MPP.
        level0_downsample: level-0 pixels per grid pixel.
    """

    columns: int
    rows: int
    width: int
    height: int
    um_per_px: float
    level0_downsample: float
    tile_size: int = TILE_PX

    @classmethod
    def covering(
        cls, width: int, height: int, *, um_per_px: float, level0_downsample: float
    ) -> "TileGrid":
        """The grid that covers `width` x `height` pixels, its last tiles padded."""
        return cls(
            columns=-(-width // TILE_PX),
            rows=-(-height // TILE_PX),
            width=width,
            height=height,
            um_per_px=um_per_px,
            level0_downsample=level0_downsample,
        )

    def extent(self, column: int, row: int) -> tuple[int, int]:
        """Width and height in pixels of the part of a tile that is slide, not padding."""
        return (
            min(self.tile_size, self.width - column * self.tile_size),
            min(self.tile_size, self.height - row * self.tile_size),
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile; `pixels` is uint8 (512, 512, 3) RGB, C-contiguous, the receiver's to keep."""

    column: int
    row: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class UnreadableTile:
    """A grid position whose pixels could not be read in full; `reason` says why."""

    column: int
    row: int
    reason: str
