"""The tile grid: non-overlapping 512 x 512 tiles at 4x objective magnification."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a scan lie, in pixels at the scale of the grid, 4x (paper, section 4.2).

    Attributes:
        columns, rows: number of tiles across and down.
        width, height: pixels of the scan at the scale of the grid, without padding.
        tile_size: pixels along a tile's side.
        um_per_px: micrometres per grid pixel; by the objective where the scan states no MPP.
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
        """Return the grid that covers a scan; its last tiles are padded.

        Args:
            width: width of the scan in pixels at 4x.
            height: height of the scan in pixels at 4x.
            um_per_px: micrometres per grid pixel.
            level0_downsample: level-0 pixels per grid pixel.
        """
        return cls(
            columns=-(-width // TILE_PX),
            rows=-(-height // TILE_PX),
            width=width,
            height=height,
            um_per_px=um_per_px,
            level0_downsample=level0_downsample,
        )

    @property
    def pixel_mm2(self) -> float:
        """Area of a grid pixel in square millimetres."""
        return (self.um_per_px / 1000) ** 2

    def extent(self, column: int, row: int) -> tuple[int, int]:
        """Return width and height in pixels of the part of a tile that is scan, not padding."""
        return (
            min(self.tile_size, self.width - column * self.tile_size),
            min(self.tile_size, self.height - row * self.tile_size),
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of the grid.

    Attributes:
        column, row: its place in the grid.
        pixels: uint8 (512, 512, 3) RGB, C-contiguous. No other tile shares its memory, so the
            receiver may keep and change it.
    """

    column: int
    row: int
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class UnreadableTile:
    """A tile of the grid of which some pixels could not be read.

    Attributes:
        column, row: its place in the grid.
        reason: why, such as "block 3,7 is cut short: the file ends inside it".
        is_io_error: whether the storage returned an I/O error; a later attempt may succeed.
    """

    column: int
    row: int
    reason: str
    is_io_error: bool = False
