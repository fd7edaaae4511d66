"""A pathologist's annotations as masks on the tile grid: QuPath GeoJSON, Aperio XML, mask TIFF.

Polygons are in level-0 pixels, as both programs write them. A region's class is read off its name
(QuPath's classification, Aperio's layer), see `region_classes`; a region without one is tumour.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.research.training.annotation_files import (
    Regions,
    Ring,
    parse_aperio,
    parse_geojson,
)
from her2d.research.training.region_classes import RegionClass, RegionClasses
from her2d.slides.grid import TileGrid

_SUBPIXEL_BITS = 4
# Each level of a pyramid is up to a pixel narrower than half the one before: two in all, at 4x.
_ROUNDING_PX = 2
_STOCK_CLASSES = RegionClasses()


class AnnotationError(Her2dError):
    """Annotations cannot be used; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class TileAnnotation:
    """One tile's masks, uint8 (512, 512), 1 inside; None where nothing of the kind is annotated.

    High expression lies within tumour.
    """

    tumor: NDArray[np.uint8]
    high_expression: NDArray[np.uint8] | None
    excluded: bool


class SlideAnnotation(Protocol):
    """A slide's annotations, asked for tile by tile."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many regions of what name or kind were left out."""
        ...

    @property
    def classes(self) -> Mapping[str, RegionClass]:
        """What each region's name was taken for."""
        ...

    def tile(self, column: int, row: int) -> TileAnnotation:
        """Masks of the tile at a grid position."""
        ...


class PolygonAnnotation:
    """Regions rasterised on a grid.

    A pixel is inside if its centre is, or if the outline runs through it: OpenCV fills outlines
    too, which is half a pixel (1.25 um) more than the polygon. Outside of the slide, in a tile's
    padding, nothing is annotated.
    """

    def __init__(self, regions: Regions, grid: TileGrid) -> None:
        self._grid = grid
        self.dropped: Mapping[str, int] = regions.dropped
        self.classes: Mapping[str, RegionClass] = regions.classes
        self._regions = [
            (
                region.region_class,
                [_Outline(rings, grid.level0_downsample) for rings in region.outlines],
                [_Outline((ring,), grid.level0_downsample) for ring in region.without],
            )
            for region in regions.found
        ]
        self._has_high_expression = any(
            region.region_class is RegionClass.HIGH_EXPRESSION for region in regions.found
        )

    def tile(self, column: int, row: int) -> TileAnnotation:
        side = self._grid.tile_size
        origin = np.array([column * side, row * side], np.float64)
        width, height = self._grid.extent(column, row)
        masks = {kind: np.zeros((side, side), np.uint8) for kind in RegionClass}
        for kind, outlines, without in self._regions:
            near = [drawn for drawn in outlines if drawn.touches(origin, side)]
            if not near:
                continue
            mask = np.zeros((side, side), np.uint8)
            for drawn in near:
                drawn.fill(mask, origin)
            for hole in without:
                if hole.touches(origin, side):
                    hole.cut_from(mask, origin)
            masks[kind][:height, :width] |= mask[:height, :width]
        tumor = masks[RegionClass.TUMOR]
        high = masks[RegionClass.HIGH_EXPRESSION]
        return TileAnnotation(
            tumor,
            tumor & high if self._has_high_expression else None,
            bool(masks[RegionClass.EXCLUDED].any()),
        )


class _Outline:
    """Rings at 4x, the first around all others."""

    def __init__(self, rings: tuple[Ring, ...], downsample: float) -> None:
        self._rings = [ring / downsample for ring in rings]
        self._low, self._high = self._rings[0].min(axis=0), self._rings[0].max(axis=0)

    def touches(self, origin: NDArray[np.float64], side: int) -> bool:
        return bool((self._high >= origin).all() and (self._low <= origin + side).all())

    def fill(self, mask: NDArray[np.uint8], origin: NDArray[np.float64]) -> None:
        # Even-odd filling of the rings together leaves the holes out.
        cv2.fillPoly(mask, self._fixed_point(origin), 1, cv2.LINE_8, _SUBPIXEL_BITS)

    def cut_from(self, mask: NDArray[np.uint8], origin: NDArray[np.float64]) -> None:
        """Clear what is inside, but not the outline: it is the surroundings' as in `fill`."""
        rings = self._fixed_point(origin)
        inside = np.zeros_like(mask)
        cv2.fillPoly(inside, rings, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.polylines(inside, rings, True, 0, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        mask[inside > 0] = 0

    def _fixed_point(self, origin: NDArray[np.float64]) -> list[NDArray[np.int32]]:
        # OpenCV's integer coordinates are pixel centres, half a pixel into a pixel's area.
        scale = 1 << _SUBPIXEL_BITS
        return [np.round((r - origin - 0.5) * scale).astype(np.int32) for r in self._rings]


class MaskAnnotation:
    """A label image at 4x: 0 nothing, 1 tumour, 2 tumour of high expression, 255 excluded.

    Without a single 2 it does not say where expression is high, as polygons without such a region.
    """

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self._labels = labels
        self._has_high_expression = bool((labels == 2).any())
        self.dropped: Mapping[str, int] = {}
        self.classes: Mapping[str, RegionClass] = {}

    def tile(self, column: int, row: int) -> TileAnnotation:
        labels = np.zeros((512, 512), np.uint8)
        part = self._labels[row * 512 : (row + 1) * 512, column * 512 : (column + 1) * 512]
        labels[: part.shape[0], : part.shape[1]] = part
        tumor = (labels == 1) | (labels == 2)
        high = (labels == 2).astype(np.uint8) if self._has_high_expression else None
        return TileAnnotation(tumor.astype(np.uint8), high, bool((labels == 255).any()))


def read_annotation(
    path: Path, grid: TileGrid, classes: RegionClasses = _STOCK_CLASSES
) -> SlideAnnotation:
    """Read a slide's annotations: .geojson or .json, .xml, .tif or .tiff.

    Raises:
        AnnotationError: the file cannot be read, is of no known kind, names an unknown class, or
            (a mask) has another size than the slide at 4x, give or take a pyramid's rounding.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".geojson", ".json"):
            return PolygonAnnotation(parse_geojson(json.loads(path.read_bytes()), classes), grid)
        if suffix == ".xml":
            return PolygonAnnotation(parse_aperio(ET.fromstring(path.read_bytes()), classes), grid)
        if suffix in (".tif", ".tiff"):
            return _mask(path, grid)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ET.ParseError) as error:
        raise AnnotationError(f"{path.name} cannot be understood: {error}.") from error
    raise AnnotationError(f"{path.name} is no annotation: .geojson, .xml and .tif are read.")


def _mask(path: Path, grid: TileGrid) -> MaskAnnotation:
    labels = tifffile.imread(path)
    wanted = (grid.height, grid.width)
    if (
        labels.dtype != np.uint8
        or labels.ndim != 2
        or np.abs(np.subtract(labels.shape, wanted)).max() > _ROUNDING_PX
    ):
        raise ValueError(
            f"a mask of {grid.height} x {grid.width} bytes is wanted, this is {labels.shape}"
            f" of {labels.dtype}"
        )
    return MaskAnnotation(labels[: grid.height, : grid.width])
