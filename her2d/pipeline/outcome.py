"""The outcome of a slide: the class of each tile, and the score."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from her2d.pipeline.interval import TumorTiles
from her2d.pipeline.scoring import Score
from her2d.pipeline.slide_quality import SlideQuality
from her2d.slides.grid import TileGrid
from her2d.slides.metadata import SlideMetadata
from her2d.slides.scale import ScaleDoubt


class TileClass(IntEnum):
    """The result of a tile (paper, section 4.2 to 4.5).

    Tumour tiles are weak or strong by HER2Net. A method that calls slides as a whole only knows
    that they are tumour.
    """

    BACKGROUND = 0
    NON_TUMOR = 1
    WEAK = 2
    STRONG = 3
    UNREADABLE = 4
    TUMOR = 5


_TUMOR = (TileClass.WEAK, TileClass.STRONG, TileClass.TUMOR)
_TISSUE = (TileClass.NON_TUMOR, *_TUMOR)


def is_tumor(tile_class: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which tiles are tumour tiles, bool of the same shape."""
    return np.isin(tile_class, _TUMOR)


def is_tissue(tile_class: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which tiles show tissue, tumour or not, bool of the same shape."""
    return np.isin(tile_class, _TISSUE)


@dataclass(frozen=True, slots=True)
class Overview:
    """The slide and its tumour, small enough to keep and draw.

    Attributes:
        rgb: uint8 (rows * tile_px, columns * tile_px, 3), area-averaged.
        tumor: uint8, same height and width: share of tumour pixels in tumour tiles, 0..255.
        tile_px: pixels along a tile's side.
    """

    rgb: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    tile_px: int


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """A slide's score and the data it is computed from; arrays are (rows, columns) of the grid.

    Attributes:
        tile_class: uint8, a TileClass each.
        tumor_pixels: int32, 0 where the segmenter was not used.
        p_folds: float32 (rows, columns, 5), NaN outside tumour tiles, and where a sub-classifier
            was not run because the tile's class was certain.
        p_strong: float32, the integrator's probability, NaN outside tumour tiles, and where the
            tile's class was certain before the probability was.
        attention: float32, the weight of each tumour tile in the call of a slide as a whole, with a
            sum of 1, NaN outside tumour tiles; None if the method weighs no tiles, or made no call.
        tiles_decided_early: number of tumour tiles for which not all sub-classifiers were run; None
            if all always are.
        unreadable_pixels: pixels of the scan that could not be read and may be tumour.
        unreadable_reason: why the first unreadable tile could not be read, None if all were.
        has_io_error: bool, whether a tile could not be read because of I/O errors of the storage.
        unread_could_change_call: whether what the unreadable tiles hold could change the call. Then
            the slide has no call because of the file, not because of the tissue.
        scale: why the scan's scale is doubtful; None if it is not.
    """

    metadata: SlideMetadata
    grid: TileGrid
    score: Score
    tile_class: NDArray[np.uint8]
    tumor_pixels: NDArray[np.int32]
    p_folds: NDArray[np.float32]
    p_strong: NDArray[np.float32]
    overview: Overview
    unreadable_pixels: int
    unreadable_reason: str | None
    has_io_error: NDArray[np.bool_]
    unread_could_change_call: bool
    quality: SlideQuality
    scale: ScaleDoubt | None = None
    attention: NDArray[np.float32] | None = None
    tiles_decided_early: int | None = None

    @property
    def unreadable_percent(self) -> float:
        """Share of what may be tissue that could not be read, in percent of the area.

        A tile that could not be read may be tissue.
        """
        unreadable = _area(self.grid, self.tile_class == TileClass.UNREADABLE)
        tissue = _area(self.grid, is_tissue(self.tile_class))
        return 100 * unreadable / (unreadable + tissue) if unreadable else 0.0

    @property
    def has_io_errors(self) -> bool:
        """Whether the storage returned I/O errors for some tiles."""
        return bool(self.has_io_error.any())

    @property
    def lost_percent(self) -> float:
        """Share of what may be tissue that no later attempt can read, in percent of the area.

        It is at least that: all tiles with I/O errors may be tissue, and may be read later.
        """
        unreadable = self.tile_class == TileClass.UNREADABLE
        lost = _area(self.grid, unreadable & ~self.has_io_error)
        tissue = _area(self.grid, is_tissue(self.tile_class) | self.has_io_error)
        return 100 * lost / (lost + tissue) if lost else 0.0

    @property
    def tumor_tiles(self) -> TumorTiles:
        """The tumour tiles, row by row."""
        return find_tumor_tiles(self.tile_class, self.tumor_pixels, self.p_strong, self.p_folds)

    def count(self, *tile_classes: TileClass) -> int:
        """Return the number of tiles of these classes."""
        return int(np.isin(self.tile_class, tile_classes).sum())


def find_tumor_tiles(
    tile_class: NDArray[np.uint8],
    tumor_pixels: NDArray[np.int32],
    p_strong: NDArray[np.float32],
    p_folds: NDArray[np.float32],
) -> TumorTiles:
    """Return the tumour tiles of a grid, row by row; arguments as in `SlideOutcome`."""
    row, column = np.nonzero(is_tumor(tile_class))
    return TumorTiles(
        row=row,
        column=column,
        tumor_pixels=tumor_pixels[row, column].astype(np.int64),
        strong=np.asarray(tile_class[row, column] == TileClass.STRONG),
        p_strong=p_strong[row, column],
        p_folds=p_folds[row, column],
    )


def pixels_that_may_be_tumor(
    grid: TileGrid, tile_class: NDArray[np.uint8], tumor_fraction: float
) -> int:
    """Return the number of pixels of the scan in unreadable tiles that could be tumour tiles.

    A tile at the edge of which so little is scan that it cannot be a tumour tile does not count.

    Args:
        grid: of the slide.
        tile_class: uint8 (rows, columns), a TileClass each.
        tumor_fraction: share of tumour pixels up to which a tile is a non-tumour tile.
    """
    areas = _areas(grid, tile_class == TileClass.UNREADABLE)
    return sum(area for area in areas if area > tumor_fraction * grid.tile_size**2)


def _area(grid: TileGrid, tiles: NDArray[np.bool_]) -> int:
    return sum(_areas(grid, tiles))


def _areas(grid: TileGrid, tiles: NDArray[np.bool_]) -> list[int]:
    """Return the pixels of each of `tiles` that are scan, not padding."""
    return [math.prod(grid.extent(int(column), int(row))) for row, column in np.argwhere(tiles)]
