"""Outline the tumour from the low-resolution mask that is stored for a run.

The mask has at most 256 pixels along a tile's side. Each is the share of tumour in it, and half or
more counts as tumour. The outlines' resolution is `Outlines.resolution_um`, which is 5 um on small
slides and more on large ones. The segmenter's mask, at 2.5 um, is not stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from her2d.method import TILE_PX
from her2d.results.pictures import Pictures
from her2d.results.stored_run import StoredRun

_HALF = 127


@dataclass(frozen=True, slots=True)
class Outline:
    """One connected region of tumour in tiles of one class, without its holes.

    Attributes:
        polygon: level-0 pixels.
        strong: whether its tiles are HER2-high.
        area_mm2: of the polygon.
    """

    polygon: Polygon
    strong: bool
    area_mm2: float


@dataclass(frozen=True, slots=True)
class Outlines:
    """All outlines of a run, and the pixel size of their mask in micrometres."""

    regions: tuple[Outline, ...]
    resolution_um: float


def tumor_outlines(run: StoredRun, pictures: Pictures) -> Outlines:
    """Outline HER2-high and other tumour, largest region first."""
    geometry = run.geometry
    level0_per_px = geometry.tile_side / pictures.tile_px
    um_per_px = geometry.um_per_px * TILE_PX / pictures.tile_px
    mm2 = (um_per_px / level0_per_px / 1000) ** 2
    tumor = pictures.tumor > _HALF
    slide = shapely.box(0, 0, geometry.width, geometry.height)
    regions = [
        Outline(polygon, strong, polygon.area * mm2)
        for strong in (True, False)
        for polygon in _polygons(tumor & _tiles_of(run, pictures, strong), level0_per_px, slide)
    ]
    regions.sort(key=lambda region: -region.area_mm2)
    return Outlines(tuple(regions), um_per_px)


def _tiles_of(run: StoredRun, pictures: Pictures, strong: bool) -> NDArray[np.bool_]:
    chosen = np.zeros((run.geometry.rows, run.geometry.columns), bool)
    wanted = np.array(
        [tile_class == ("strong" if strong else "weak") for tile_class in run.tiles.tile_class],
        bool,
    )
    chosen[run.tiles.row[wanted], run.tiles.column[wanted]] = True
    side = pictures.tile_px
    return np.repeat(np.repeat(chosen, side, axis=0), side, axis=1)


def _polygons(mask: NDArray[np.bool_], scale: float, slide: Polygon) -> Iterator[Polygon]:
    """Outline each region of a mask by a valid polygon in level-0 pixels, cut at the slide's edge.

    A pixel is a square, so the polygons have exactly the area of the mask's pixels.
    """
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    row, start = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    runs = shapely.box(start * scale, row * scale, stop * scale, (row + 1) * scale)
    whole = shapely.intersection(shapely.union_all(runs), slide)
    for part in shapely.get_parts(whole):
        if isinstance(part, Polygon) and part.area > 0:
            yield shapely.geometry.polygon.orient(part)
