"""Compare an IHC slide with its H&E slide: is it the same piece of tissue, and where does it lie?

The shift is that of the highest phase correlation of both slides in small, by how dark they are.
Two figures say whether the pieces are the same once the shift is corrected: the overlap of the
tissue (Dice), and the correlation of how dark both are where both have tissue.

Measured on simulated pairs (`tests/research/training/test_alignment.py` repeats some of it):

- 12 pairs at 36 shifts of up to 0.7 mm: the shift is found to 4 um, the overlap is 0.82 or more
  and the correlation 0.69 or more.
- 7 pairs whose sections have no cell in common: shift to 9 um, overlap 0.98, correlation 0.62.
- 132 pairs of different slides: overlap 0.60 in the median, but up to 0.92, because many slides
  have one round piece in the middle; correlation up to 0.40.

Real sections differ more than simulated ones, so the limits are below the figures of true pairs.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from her2d.method import TILE_PX
from her2d.slides.grid import Tile, TileGrid, UnreadableTile
from her2d.slides.protocol import Slide
from her2d.system.files import PUBLIC, write_whole

LEAST_DICE = 0.75
LEAST_CORRELATION = 0.45

SHIFT_UM = 25.0
"""Shifts up to about the size of a cell, over which the density of DAB is averaged, are ignored."""

_REDUCED = 8
_MOST_SIDE = 2048
_LEAST_TISSUE = 64
_GLASS_PERCENTILE = 99
_UPSAMPLED = 10

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Alignment:
    """How an IHC slide lies on its H&E slide.

    Attributes:
        dice: Overlap of the tissue after the shift is corrected, 0 to 1.
        correlation: Correlation of how dark both are where both have tissue, -1 to 1.
        right_px, down_px: Shift of the IHC slide's tissue, in pixels of the 4x grid.
        um_per_px: Micrometres per pixel of the grid.
    """

    dice: float
    correlation: float
    right_px: float
    down_px: float
    um_per_px: float

    @property
    def fits(self) -> bool:
        """Whether both slides show the same piece of tissue."""
        return self.dice >= LEAST_DICE and self.correlation >= LEAST_CORRELATION

    @property
    def right_um(self) -> float:
        """Shift to the right in micrometres."""
        return self.right_px * self.um_per_px

    @property
    def down_um(self) -> float:
        """Shift downwards in micrometres."""
        return self.down_px * self.um_per_px

    @property
    def is_shifted(self) -> bool:
        """Whether the slides are of one piece, and the shift is more than a cell."""
        return self.fits and float(np.hypot(self.right_um, self.down_um)) > SHIFT_UM

    @property
    def verdict(self) -> str:
        """`misfit`, `shifted` or `aligned`."""
        if not self.fits:
            return "misfit"
        return "shifted" if self.is_shifted else "aligned"

    def describe_shift(self) -> str:
        """Return the shift in words, such as `50 um to the right of and 20 um above`."""
        across = "to the right of" if self.right_um > 0 else "to the left of"
        along = "below" if self.down_um > 0 else "above"
        return f"{abs(self.right_um):.0f} um {across} and {abs(self.down_um):.0f} um {along}"


def measure_alignment(he: Slide, ihc: Slide) -> Alignment | None:
    """Measure how an IHC slide lies on its H&E slide, in pixels of their 4x grids.

    Args:
        he: The open H&E slide.
        ihc: The open IHC slide.

    Returns:
        None if there is too little tissue on one of them to tell.

    Raises:
        SlideError: A slide cannot be read.
    """
    sides = (he.grid.width, he.grid.height, ihc.grid.width, ihc.grid.height)
    reduced = max(_REDUCED, max(sides) / _MOST_SIDE)
    one, other = (_darkness(_in_small(slide, reduced)) for slide in (he, ihc))
    # The correlation is circular; glass around the slides keeps tissue from meeting itself.
    height, width = (int(1.5 * max(a, b)) for a, b in zip(one.shape, other.shape, strict=True))
    one, other = _with_glass(one, height, width), _with_glass(other, height, width)
    he_tissue, ihc_tissue = _tissue(one), _tissue(other)
    if min(he_tissue.sum(), ihc_tissue.sum()) < _LEAST_TISSUE:
        return None
    found = phase_cross_correlation(other, one, upsample_factor=_UPSAMPLED)  # type: ignore[no-untyped-call]
    down, right = found[0]
    moved = _moved(other, right, down)
    moved_tissue = _moved(ihc_tissue.astype(np.float32), right, down) > 0.5
    both = he_tissue & moved_tissue
    return Alignment(
        dice=float(2 * both.sum() / (he_tissue.sum() + moved_tissue.sum())),
        correlation=_correlation(one[both], moved[both]),
        right_px=float(right) * reduced,
        down_px=float(down) * reduced,
        um_per_px=he.grid.um_per_px,
    )


def write_alignments(path: Path, found: Mapping[str, Alignment | None]) -> None:
    """Write a CSV with how each IHC slide lies on its H&E slide.

    Args:
        path: The file.
        found: Alignments by slide; None if it was not measured.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["slide", "verdict", "dice", "correlation", "right_um", "down_um"])
    for name, each in found.items():
        if each is None:
            table.writerow([name, "not measured", "", "", "", ""])
        else:
            numbers = (f"{each.dice:.3f}", f"{each.correlation:.3f}")
            shift = (f"{each.right_um:.1f}", f"{each.down_um:.1f}")
            table.writerow([name, each.verdict, *numbers, *shift])
    write_whole(path, text.getvalue().encode(), mode=PUBLIC)


def shifted_tiles(
    ihc: Slide, grid: TileGrid, right: int, down: int
) -> Iterator[Tile | UnreadableTile]:
    """Yield the IHC tile at the place of each H&E tile, row by row, after a shift is corrected.

    At most two rows of tiles are in memory. What lies beyond the IHC slide is white.

    Args:
        ihc: The open IHC slide.
        grid: The grid of the H&E slide.
        right, down: Where the tissue lies on the IHC slide, in pixels from its place on the H&E
            slide.

    Raises:
        SlideError: The slide cannot be read.
    """
    kept: dict[tuple[int, int], Tile | UnreadableTile] = {}
    following = ihc.tiles(workers=1)
    rows_read = 0
    for row in range(grid.rows):
        first = (row * TILE_PX + down) // TILE_PX
        kept = {at: tile for at, tile in kept.items() if at[1] >= first}
        while rows_read <= min(first + 1, ihc.grid.rows - 1):
            for _ in range(ihc.grid.columns):
                tile = next(following)
                if tile.row >= first:
                    kept[tile.column, tile.row] = tile
            rows_read += 1
        for column in range(grid.columns):
            yield _joined(kept, column, row, column * TILE_PX + right, row * TILE_PX + down)


def _joined(
    tiles: dict[tuple[int, int], Tile | UnreadableTile], column: int, row: int, x: int, y: int
) -> Tile | UnreadableTile:
    """Join up to four tiles to the one whose top left pixel is at x, y of the slide."""
    (left, over), (top, above) = divmod(x, TILE_PX), divmod(y, TILE_PX)
    pixels = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    for part_column, source_x, target_x in _halves(left, over):
        for part_row, source_y, target_y in _halves(top, above):
            part = tiles.get((part_column, part_row))
            if isinstance(part, UnreadableTile):
                return UnreadableTile(column, row, part.reason, part.is_io_error)
            if part is not None:
                pixels[target_y, target_x] = part.pixels[source_y, source_x]
    return Tile(column, row, pixels)


def _halves(tile: int, offset: int) -> list[tuple[int, slice, slice]]:
    """Return the tiles along one axis that a shifted tile consists of, with both ranges."""
    rest = TILE_PX - offset
    first = (tile, slice(offset, TILE_PX), slice(0, rest))
    return [first, (tile + 1, slice(0, offset), slice(rest, TILE_PX))] if offset else [first]


def _in_small(slide: Slide, reduced: float) -> NDArray[np.uint8]:
    grid = slide.grid
    return slide.get_thumbnail(
        (max(1, round(grid.width / reduced)), max(1, round(grid.height / reduced)))
    )


def _darkness(rgb: NDArray[np.uint8]) -> Image:
    """Return the optical density, averaged over the channels, slightly smoothed."""
    grey = cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 1.0).mean(axis=2)
    glass = max(float(np.percentile(grey, _GLASS_PERCENTILE)), 1.0)
    return np.asarray(np.maximum(-np.log(np.maximum(grey, 1) / glass), 0), np.float32)


def _tissue(darkness: Image) -> Mask:
    """Find tissue by the triangle method, which finds pale tissue beside much glass."""
    dark = max(float(np.percentile(darkness, 99.5)), 1e-3)
    levels = np.clip(darkness / dark * 255, 0, 255).astype(np.uint8)
    above, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)
    return np.asarray(levels > above)


def _with_glass(image: Image, height: int, width: int) -> Image:
    return np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])))


def _moved(image: Image, right: float, down: float) -> Image:
    """Move what a shift moved back to its place."""
    height, width = image.shape
    matrix = np.array([[1, 0, -right], [0, 1, -down]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height)), np.float32)


def _correlation(one: Image, other: Image) -> float:
    if len(one) < _LEAST_TISSUE or min(one.std(), other.std()) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
