"""Outline the tumour from the low-resolution mask that is stored for a run.

The mask has at most 256 pixels along a tile's side and two megapixels in all. Each pixel is the
share of tumour in it, and half or more counts as tumour. The outlines' resolution is
`Outlines.resolution_um`, which is 5 um on small slides and more on large ones. The segmenter's
mask, at 2.5 um, is not stored.

A region is what hangs together along the sides of pixels. Specks are left out, and small holes are
filled. The steps of the pixels are smoothed by a line through the middle of each step, which keeps
the area, and then simplified. A region whose area would change by more than AREA_TOLERANCE, or that
would not be a valid polygon, keeps its steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from shapely import Polygon

from her2d.method import TILE_PX
from her2d.results.pictures import Pictures
from her2d.results.stored_run import StoredRun

LEAST_UM2 = 2500.0
"""The area from which a region of tumour is outlined: a square of 50 um, a dozen tumour cells."""

AREA_TOLERANCE = 0.02
"""The most that filling holes, smoothing and simplifying may change of a region's area."""

_LEAST_PX = 4
_HALF = 127
_FILLED = AREA_TOLERANCE / 2
_LONG_PX = 4  # a corner between two sides of this length belongs to the region, not to the pixels
_SIMPLER_PX = (0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Outline:
    """One region of tumour, with its holes.

    Attributes:
        polygon: level-0 pixels.
        strong: whether it is HER2-high tumour; else it is all tumour, HER2-high or not.
        area_mm2: of the polygon.
    """

    polygon: Polygon
    strong: bool
    area_mm2: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of the tumour is not outlined, because its regions are too small."""

    regions: int
    area_mm2: float


class Outlines:
    """The outlines of a run: the tumour, and within it the HER2-high tumour. Iterate to make them.

    One is made at a time, so that a slide with many of them needs no more memory than one with few.

    Attributes:
        resolution_um: the side of a pixel of the mask, in micrometres.
        least_um2: the area from which a region is outlined.
        left_out: the regions of tumour that are smaller.
    """

    def __init__(self, run: StoredRun, pictures: Pictures, least_um2: float = LEAST_UM2) -> None:
        geometry = run.geometry
        self.resolution_um = geometry.um_per_px * TILE_PX / pictures.tile_px
        self.least_um2 = least_um2
        self._scale = geometry.tile_side / pictures.tile_px
        self._slide = shapely.box(0, 0, geometry.width, geometry.height)
        tumor = pictures.tumor > _HALF
        self._regions = {
            strong: _Regions.of(
                tumor & _tiles_of(run, pictures, classes),
                least_px=least_um2 / self.resolution_um**2 if least_um2 else 0.0,
            )
            for strong, classes in ((False, ("weak", "strong", "tumor")), (True, ("strong",)))
        }
        specks = self._regions[False].left_out_px
        self.left_out = LeftOut(len(specks), float(specks.sum()) * self._pixel_mm2)

    def __iter__(self) -> Iterator[Outline]:
        """Generate the tumour's outlines, then those of HER2-high tumour, largest region first."""
        level0_mm2 = self._pixel_mm2 / self._scale**2
        for strong, regions in self._regions.items():
            for found in regions.polygons(fill_px=self.least_um2 / self.resolution_um**2):
                whole = shapely.affinity.scale(found, self._scale, self._scale, origin=(0, 0))
                inside = whole if self._slide.covers(whole) else whole & self._slide
                for part in shapely.get_parts(inside):
                    if isinstance(part, Polygon) and part.area > 0:
                        polygon = shapely.geometry.polygon.orient(part)
                        yield Outline(polygon, strong, polygon.area * level0_mm2)

    @property
    def _pixel_mm2(self) -> float:
        return (self.resolution_um / 1000) ** 2


def tumor_outlines(run: StoredRun, pictures: Pictures, *, least_um2: float = LEAST_UM2) -> Outlines:
    """Outline a run's tumour.

    Args:
        run: the run.
        pictures: its pictures.
        least_um2: the area from which a region is outlined, at least four pixels of the mask; 0 for
            every region.
    """
    return Outlines(run, pictures, least_um2)


def _tiles_of(run: StoredRun, pictures: Pictures, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    chosen = np.zeros((run.geometry.rows, run.geometry.columns), bool)
    wanted = np.isin(np.array(run.tiles.tile_class, str), classes)
    chosen[run.tiles.row[wanted], run.tiles.column[wanted]] = True
    side = pictures.tile_px
    return np.repeat(np.repeat(chosen, side, axis=0), side, axis=1)


@dataclass(frozen=True, slots=True)
class _Regions:
    """The regions of a mask that are large enough.

    Attributes:
        labels: int32, the number of each pixel's region.
        windows: left, top, width, height and area of each region, by its number.
        kept: the numbers of those that are large enough, largest first.
        left_out_px: the areas of the others.
    """

    labels: NDArray[np.int32]
    windows: NDArray[np.int32]
    kept: NDArray[np.int64]
    left_out_px: NDArray[np.int32]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], *, least_px: float) -> "_Regions":
        _, found, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S
        )
        labels, windows = np.asarray(found, np.int32), np.asarray(stats, np.int32)
        areas = windows[:, cv2.CC_STAT_AREA]
        is_kept = areas >= (max(least_px, _LEAST_PX) if least_px else 1)
        is_kept[0] = False  # what is not in the mask
        kept = np.flatnonzero(is_kept)
        is_kept[0] = True
        return cls(labels, windows, kept[np.argsort(-areas[kept], kind="stable")], areas[~is_kept])

    def polygons(self, *, fill_px: float) -> Iterator[Polygon]:
        """Generate a valid polygon for each region that is kept, in pixels of the mask."""
        for number in self.kept:
            left, top, width, height, _ = (int(edge) for edge in self.windows[number])
            window = self.labels[top : top + height, left : left + width] == number
            exact = _exact_polygon(window)
            polygon = _simplified(exact, _without_small_holes(exact, fill_px))
            yield shapely.affinity.translate(polygon, left, top)


def _exact_polygon(mask: NDArray[np.bool_]) -> Polygon:
    """Return the polygon along the pixels of a region, which has exactly their area."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    row, start = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    return shapely.simplify(shapely.union_all(shapely.box(start, row, stop, row + 1)), 0)


def _without_small_holes(polygon: Polygon, fill_px: float) -> Polygon:
    """Fill holes under `fill_px`, smallest first, while they are at most _FILLED of the area."""
    holes = sorted(((Polygon(ring).area, ring) for ring in polygon.interiors), key=_area)
    left = _FILLED * polygon.area
    kept = []
    for area, ring in holes:
        if area < fill_px and area <= left:
            left -= area
        else:
            kept.append(ring)
    return Polygon(polygon.exterior, kept)


def _area(hole: tuple[float, object]) -> float:
    return hole[0]


def _simplified(exact: Polygon, polygon: Polygon) -> Polygon:
    smooth = Polygon(_smoothed(polygon.exterior), [_smoothed(ring) for ring in polygon.interiors])
    for tolerance in _SIMPLER_PX:
        found = shapely.simplify(smooth, tolerance)
        if (
            isinstance(found, Polygon)
            and len(found.interiors) == len(polygon.interiors)
            and abs(found.area - exact.area) <= AREA_TOLERANCE * exact.area
            and found.is_valid
        ):
            return found
    return polygon


def _smoothed(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """Return the line that cuts the corner of each step half a pixel from it.

    A ring that is so small that this would change its area stays as it is.
    """
    corners = shapely.get_coordinates(ring)[:-1]
    sides = np.roll(corners, -1, axis=0) - corners
    length = np.abs(sides).sum(axis=1)
    half = sides / (2 * length[:, None])
    is_long = length >= _LONG_PX
    stays = (is_long & np.roll(is_long, 1))[:, None]
    begin = np.where(stays, corners, corners + half)
    end = np.where(np.roll(stays, -1), np.roll(corners, -1, axis=0), corners + sides - half)
    smooth = np.stack([begin, end], axis=1).reshape(-1, 2)
    before = Polygon(corners).area
    return smooth if abs(Polygon(smooth).area - before) <= AREA_TOLERANCE * before else corners
