"""Read annotations (QuPath GeoJSON, Aperio XML, mask TIFF) as masks on the tile grid.

Polygons are in level-0 pixels, as both programs write them. The class of a region follows from its
name (QuPath's classification, Aperio's layer), see `region_classes`; a region without a name is
tumour.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.method import TILE_PX
from her2d.research.training.annotation_files import (
    Regions,
    Ring,
    parse_aperio,
    parse_geojson,
)
from her2d.research.training.region_classes import RegionClass, RegionClasses
from her2d.slides.grid import TileGrid
from her2d.system.shortage import is_own_shortage

_SUBPIXEL_BITS = 4
# Each pyramid level may be rounded down by a pixel, which adds up to two pixels at 4x.
_ROUNDING_PX = 2
_LABELS = frozenset({0, 1, 2, 255})
_STOCK_CLASSES = RegionClasses()


class AnnotationError(Her2dError):
    """An annotation cannot be used; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class TileAnnotation:
    """Annotation of one tile.

    Attributes:
        tumor: uint8 (512, 512), 1 where tumour.
        high_expression: uint8 (512, 512), 1 where tumour of high HER2 expression; None if the
            slide's annotation does not mark high expression anywhere.
        excluded: Whether a region that excludes tiles from training touches the tile.
    """

    tumor: NDArray[np.uint8]
    high_expression: NDArray[np.uint8] | None
    excluded: bool


class SlideAnnotation(Protocol):
    """Annotation of a slide, read tile by tile."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Number of regions that were left out, by name or kind."""
        ...

    @property
    def classes(self) -> Mapping[str, RegionClass]:
        """Class of each region name in the file."""
        ...

    def tile(self, column: int, row: int) -> TileAnnotation:
        """Return the annotation of the tile at a grid position.

        Args:
            column, row: Position on the tile grid, from 0.
        """
        ...


class PolygonAnnotation:
    """Annotation of polygons, rasterised on the tile grid.

    A pixel is inside if its centre is inside or the outline crosses it, because OpenCV fills
    outlines too. This adds half a pixel (1.25 um) to the polygon. The padding of tiles at the edge
    of the slide is not annotated.

    Args:
        regions: The file's regions.
        grid: The slide's tile grid.

    Raises:
        ValueError: A region does not touch the slide.
    """

    def __init__(self, regions: Regions, grid: TileGrid) -> None:
        self._grid = grid
        self.dropped: Mapping[str, int] = regions.dropped
        self.classes: Mapping[str, RegionClass] = regions.classes
        self._regions = [
            (
                region.region_class,
                [_Outline(rings, grid.level0_downsample) for rings in region.outlines],
                [_Outline((ring,), grid.level0_downsample) for ring in region.cutouts],
            )
            for region in regions.found
        ]
        for number, (_, outlines, _) in enumerate(self._regions, 1):
            if not any(outline.is_on(grid) for outline in outlines):
                raise ValueError(
                    f"region {number} of {len(self._regions)} lies beside the slide of {grid.width}"
                    f" x {grid.height} pixels at 4x. Regions must be in pixels of the scan at its"
                    " full size; this file may belong to another scan"
                )
        self._has_high_expression = any(
            region.region_class is RegionClass.HIGH_EXPRESSION for region in regions.found
        )

    def tile(self, column: int, row: int) -> TileAnnotation:
        side = self._grid.tile_size
        origin = np.array([column * side, row * side], np.float64)
        width, height = self._grid.extent(column, row)
        masks = {kind: np.zeros((side, side), np.uint8) for kind in RegionClass}
        for kind, outlines, cutouts in self._regions:
            near = [outline for outline in outlines if outline.touches(origin, side)]
            if not near:
                continue
            mask = np.zeros((side, side), np.uint8)
            for outline in near:
                outline.fill(mask, origin)
            for hole in cutouts:
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
    """An outer ring and its holes, in pixels at 4x."""

    def __init__(self, rings: tuple[Ring, ...], downsample: float) -> None:
        self._rings = [ring / downsample for ring in rings]
        self._low, self._high = self._rings[0].min(axis=0), self._rings[0].max(axis=0)

    def touches(self, origin: NDArray[np.float64], side: int) -> bool:
        return bool((self._high >= origin).all() and (self._low <= origin + side).all())

    def is_on(self, grid: TileGrid) -> bool:
        """Return whether the outline's bounds touch the slide or the padding of its tiles."""
        size = np.array([grid.columns, grid.rows]) * grid.tile_size
        return bool((self._high >= 0).all() and (self._low <= size).all())

    def fill(self, mask: NDArray[np.uint8], origin: NDArray[np.float64]) -> None:
        # Filling all rings at once by the even-odd rule leaves the holes out.
        cv2.fillPoly(mask, self._fixed_point(origin), 1, cv2.LINE_8, _SUBPIXEL_BITS)

    def cut_from(self, mask: NDArray[np.uint8], origin: NDArray[np.float64]) -> None:
        """Clear the inside of the rings, but not the outline, which `fill` counts as outside."""
        rings = self._fixed_point(origin)
        inside = np.zeros_like(mask)
        cv2.fillPoly(inside, rings, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.polylines(inside, rings, True, 0, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        mask[inside > 0] = 0

    def _fixed_point(self, origin: NDArray[np.float64]) -> list[NDArray[np.int32]]:
        # OpenCV's integer coordinates are pixel centres, so shift by half a pixel.
        scale = 1 << _SUBPIXEL_BITS
        return [np.round((r - origin - 0.5) * scale).astype(np.int32) for r in self._rings]


class MaskAnnotation:
    """Annotation by a label image at 4x.

    Labels are 0 for other tissue, 1 for tumour, 2 for tumour of high expression and 255 for
    excluded. An image without the label 2 does not mark high expression, like polygons without such
    a region.

    Args:
        labels: uint8 (H, W), with the size of the slide at 4x.

    Raises:
        ValueError: There are other labels.
    """

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
        if unknown := set(np.flatnonzero(counts).tolist()) - _LABELS:
            raise ValueError(
                f"the label {min(unknown)} is not known. Known are 0 (nothing), 1 (tumour), 2"
                " (tumour of high expression) and 255 (excluded)"
            )
        self._labels = labels
        self._has_high_expression = bool((labels == 2).any())
        self.dropped: Mapping[str, int] = {}
        self.classes: Mapping[str, RegionClass] = {}

    def tile(self, column: int, row: int) -> TileAnnotation:
        labels = np.zeros((TILE_PX, TILE_PX), np.uint8)
        part = self._labels[
            row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX
        ]
        labels[: part.shape[0], : part.shape[1]] = part
        tumor = (labels == 1) | (labels == 2)
        high = (labels == 2).astype(np.uint8) if self._has_high_expression else None
        return TileAnnotation(tumor.astype(np.uint8), high, bool((labels == 255).any()))


def read_annotation(
    path: Path, grid: TileGrid, classes: RegionClasses = _STOCK_CLASSES
) -> SlideAnnotation:
    """Read a slide's annotation.

    Args:
        path: A .geojson, .json, .xml, .tif or .tiff file.
        grid: The slide's tile grid.
        classes: Classes of the region names.

    Raises:
        AnnotationError: The file cannot be read, has an unknown format, names an unknown class, or
            is a mask whose size differs from the slide's at 4x by more than the rounding of a
            pyramid.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".geojson", ".json"):
            return PolygonAnnotation(parse_geojson(_parsed(path), classes), grid)
        if suffix == ".xml":
            return PolygonAnnotation(parse_aperio(ET.fromstring(path.read_bytes()), classes), grid)
        if suffix in (".tif", ".tiff"):
            return MaskAnnotation(_mask(path, grid))
    except (OSError, ValueError, ET.ParseError) as error:
        raise AnnotationError(f"Cannot read {path.name}: {error}.") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise AnnotationError(
            f"Cannot read {path.name}: it is not such a file as QuPath and Aperio's software write."
        ) from error
    raise AnnotationError(f"{path.name} is not a .geojson, .xml or .tif file.")


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _mask(path: Path, grid: TileGrid) -> NDArray[np.uint8]:
    """Read a label image of the slide's size at 4x.

    Raises:
        ValueError: It is not one, or it is damaged.
        OSError: The file cannot be read.
    """
    wanted = (grid.height, grid.width)
    try:
        with tifffile.TiffFile(path) as tiff:
            # Sizes first: a small file can stand for more pixels than fit into memory.
            shape, dtype = tiff.series[0].shape, tiff.series[0].dtype
            fits = dtype == np.uint8 and len(shape) == len(wanted)
            if fits and np.abs(np.subtract(shape, wanted)).max() <= _ROUNDING_PX:
                labels = tiff.series[0].asarray(maxworkers=1)
                return np.asarray(labels[: grid.height, : grid.width], np.uint8)
    except OSError:
        raise
    except Exception as error:  # tifffile and its decoders raise their own, of many types
        if is_own_shortage(error):
            raise
        raise ValueError(
            "the label image is damaged or not a TIFF file; export it again"
        ) from error
    raise ValueError(f"the mask must be uint8 of shape {wanted}, but is {dtype} of shape {shape}")
