"""What the pipeline hands on when a slide is finished."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from her2d.pipeline.quality import SlideQuality
from her2d.pipeline.scoring import Score
from her2d.slides.grid import TileGrid
from her2d.slides.metadata import SlideMetadata


class TileClass(IntEnum):
    """Where a tile's way through the pipeline ended (paper, section 4.2 to 4.5)."""

    BACKGROUND = 0
    NON_TUMOR = 1
    WEAK = 2
    STRONG = 3
    UNREADABLE = 4


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
    """One slide's score and what it rests on; arrays are (rows, columns) of the grid.

    Attributes:
        tile_class: uint8, a TileClass each.
        tumor_pixels: int32, 0 where the segmenter did not look.
        p_folds: float32 (rows, columns, 5), NaN outside tumour tiles.
        p_strong: float32, the integrator's probability, NaN outside tumour tiles.
        unreadable_reason: why the first unreadable tile could not be read, None where all could.
    """

    metadata: SlideMetadata
    grid: TileGrid
    score: Score
    tile_class: NDArray[np.uint8]
    tumor_pixels: NDArray[np.int32]
    p_folds: NDArray[np.float32]
    p_strong: NDArray[np.float32]
    overview: Overview
    unreadable_reason: str | None
    quality: SlideQuality

    @property
    def unreadable_pixels(self) -> int:
        """Pixels of the scan in tiles that could not be read."""
        found = np.argwhere(self.tile_class == TileClass.UNREADABLE)
        extents = [self.grid.extent(int(column), int(row)) for row, column in found]
        return sum(width * height for width, height in extents)

    def count(self, *tile_classes: TileClass) -> int:
        """Tiles that ended as one of `tile_classes`."""
        return int(np.isin(self.tile_class, tile_classes).sum())
