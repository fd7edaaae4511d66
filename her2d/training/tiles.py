"""A cohort on disk -> the tiles to learn from, read the way the daemon reads them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.slides import Tile, open_slide

TILE = 512
_BACKGROUND_SATURATION = 10.0
_TUMOR_FRACTION = 0.10


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One row of `cohort.csv`."""

    name: str
    patient: str
    path: Path
    truth: Path
    her2_status: str


@dataclass(frozen=True, slots=True)
class TileSet:
    """Tissue tiles with their truth.

    Attributes:
        pixels: uint8 (T, 512, 512, 3) RGB.
        tumor: uint8 (T, 512, 512), 1 where tumour.
        tumor_pixels: int64 (T,).
        strong: bool (T,), at least half of the tile's tumour is strong.
        slide: int64 (T,), index into `slides`.
        slides: the slides the tiles are of.
    """

    pixels: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    tumor_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]
    slide: NDArray[np.int64]
    slides: tuple[CohortSlide, ...]

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """bool (T,), tiles that go on to classification (paper, section 4.2)."""
        return np.asarray(self.tumor_pixels > _TUMOR_FRACTION * TILE * TILE)


def read_cohort(directory: Path) -> list[CohortSlide]:
    """The slides of a cohort written by `her2d simulate cohort`. Raises OSError, KeyError."""
    with (directory / "cohort.csv").open(newline="") as file:
        return [
            CohortSlide(
                row["slide"],
                row["patient"],
                directory / row["he_path"],
                directory / "truth" / f"{row['slide']}.tif",
                row["her2_status"],
            )
            for row in csv.DictReader(file)
        ]


def read_tiles(slides: list[CohortSlide]) -> TileSet:
    """Every tile of `slides` that is not background, with its truth, in memory.

    Meant for cohorts of some dozen slides: a tile takes 1 MiB.
    """
    pixels, tumor, strong_pixels, slide = [], [], [], []
    for index, cohort_slide in enumerate(slides):
        truth = tifffile.imread(cohort_slide.truth)
        with open_slide(cohort_slide.path) as opened:
            for tile in opened.tiles():
                if not isinstance(tile, Tile) or _is_background(tile.pixels):
                    continue
                y, x = tile.row * TILE, tile.column * TILE
                part = truth[y : y + TILE, x : x + TILE]
                mask = np.zeros((TILE, TILE), np.uint8)
                mask[: part.shape[0], : part.shape[1]] = part > 0
                pixels.append(tile.pixels)
                tumor.append(mask)
                strong_pixels.append(int((part == 2).sum()))
                slide.append(index)
    masks = np.stack(tumor)
    tumor_pixels = masks.sum(axis=(1, 2), dtype=np.int64)
    strong = 2 * np.array(strong_pixels, np.int64) >= np.maximum(tumor_pixels, 1)
    return TileSet(
        np.stack(pixels), masks, tumor_pixels, strong, np.array(slide, np.int64), tuple(slides)
    )


def _is_background(pixels: NDArray[np.uint8]) -> bool:
    saturation: float = cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))[1]
    return saturation <= _BACKGROUND_SATURATION
