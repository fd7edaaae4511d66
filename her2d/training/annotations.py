"""A pathologist's annotations as masks on the tile grid: QuPath GeoJSON, Aperio XML, mask TIFF.

Polygons are in level-0 pixels, as both programs write them. A region's class is read off its name
(QuPath's classification, Aperio's layer); a region without one is tumour.
"""

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.slides import TileGrid

_SUBPIXEL_BITS = 4


class AnnotationError(Exception):
    """Annotations cannot be used; `str(error)` says why."""


class RegionClass(StrEnum):
    """What a region was annotated as."""

    TUMOR = "tumor"
    HIGH_EXPRESSION = "high_expression"
    EXCLUDED = "excluded"


_NAMES = {
    "": RegionClass.TUMOR,
    "tumor": RegionClass.TUMOR,
    "tumour": RegionClass.TUMOR,
    "her2 high": RegionClass.HIGH_EXPRESSION,
    "high expression": RegionClass.HIGH_EXPRESSION,
    "strong": RegionClass.HIGH_EXPRESSION,
    "exclude": RegionClass.EXCLUDED,
    "excluded": RegionClass.EXCLUDED,
    "artifact": RegionClass.EXCLUDED,
    "artefact": RegionClass.EXCLUDED,
    "blur": RegionClass.EXCLUDED,
    "contamination": RegionClass.EXCLUDED,
}


@dataclass(frozen=True, slots=True)
class Polygon:
    """One region: its outline, then its holes, each float64 (K, 2), x and y at level 0."""

    region_class: RegionClass
    rings: tuple[NDArray[np.float64], ...]


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

    def tile(self, column: int, row: int) -> TileAnnotation:
        """Masks of the tile at a grid position."""
        ...


class PolygonAnnotation:
    """Polygons rasterised on a grid.

    A pixel is inside if its centre is, or if the outline runs through it: OpenCV fills outlines
    too, which is half a pixel (1.25 um) more than the polygon.
    """

    def __init__(self, polygons: list[Polygon], grid: TileGrid) -> None:
        self._grid = grid
        self._polygons = polygons
        self._has_high_expression = any(
            p.region_class is RegionClass.HIGH_EXPRESSION for p in polygons
        )
        scaled = [p.rings[0] / grid.level0_downsample for p in polygons]
        self._low = np.array([ring.min(axis=0) for ring in scaled]).reshape(-1, 2)
        self._high = np.array([ring.max(axis=0) for ring in scaled]).reshape(-1, 2)

    def tile(self, column: int, row: int) -> TileAnnotation:
        side = self._grid.tile_size
        origin = np.array([column * side, row * side], np.float64)
        near = ((self._high >= origin) & (self._low <= origin + side)).all(axis=1)
        masks = {kind: np.zeros((side, side), np.uint8) for kind in RegionClass}
        for index in np.flatnonzero(near):
            polygon = self._polygons[index]
            # Even-odd filling of a region's rings together leaves its holes out.
            rings = [self._fixed_point(ring, origin) for ring in polygon.rings]
            cv2.fillPoly(masks[polygon.region_class], rings, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        tumor = masks[RegionClass.TUMOR]
        high = masks[RegionClass.HIGH_EXPRESSION]
        return TileAnnotation(
            tumor,
            tumor & high if self._has_high_expression else None,
            bool(masks[RegionClass.EXCLUDED].any()),
        )

    def _fixed_point(
        self, ring: NDArray[np.float64], origin: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        # OpenCV's integer coordinates are pixel centres, half a pixel into a pixel's area.
        local = ring / self._grid.level0_downsample - origin - 0.5
        return np.round(local * (1 << _SUBPIXEL_BITS)).astype(np.int32)


class MaskAnnotation:
    """A label image at 4x: 0 nothing, 1 tumour, 2 tumour of high expression, 255 excluded."""

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self._labels = labels

    def tile(self, column: int, row: int) -> TileAnnotation:
        labels = np.zeros((512, 512), np.uint8)
        part = self._labels[row * 512 : (row + 1) * 512, column * 512 : (column + 1) * 512]
        labels[: part.shape[0], : part.shape[1]] = part
        tumor = (labels == 1) | (labels == 2)
        return TileAnnotation(
            tumor.astype(np.uint8), (labels == 2).astype(np.uint8), bool((labels == 255).any())
        )


def read_annotation(path: Path, grid: TileGrid) -> SlideAnnotation:
    """Read a slide's annotations: .geojson or .json, .xml, .tif or .tiff.

    Raises:
        AnnotationError: the file cannot be read, is of no known kind, names an unknown class, or
            (a mask) has another size than the slide at 4x.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".geojson", ".json"):
            return PolygonAnnotation(_geojson(json.loads(path.read_bytes())), grid)
        if suffix == ".xml":
            return PolygonAnnotation(_aperio(ET.fromstring(path.read_bytes())), grid)
        if suffix in (".tif", ".tiff"):
            return _mask(path, grid)
    except (OSError, ValueError, KeyError, TypeError, IndexError, ET.ParseError) as error:
        raise AnnotationError(f"{path.name} cannot be understood: {error}.") from error
    raise AnnotationError(f"{path.name} is no annotation: .geojson, .xml and .tif are read.")


def _mask(path: Path, grid: TileGrid) -> MaskAnnotation:
    labels = tifffile.imread(path)
    if labels.shape != (grid.height, grid.width) or labels.dtype != np.uint8:
        raise ValueError(
            f"a mask of {grid.height} x {grid.width} bytes is wanted, this is {labels.shape}"
            f" of {labels.dtype}"
        )
    return MaskAnnotation(labels)


def _geojson(document: Any) -> list[Polygon]:
    features = document if isinstance(document, list) else document.get("features", [document])
    polygons = []
    for feature in features:
        properties = feature.get("properties") or {}
        name = (properties.get("classification") or {}).get("name", "")
        geometry = feature["geometry"]
        match geometry["type"]:
            case "Polygon":
                parts = [geometry["coordinates"]]
            case "MultiPolygon":
                parts = geometry["coordinates"]
            case kind:
                raise ValueError(f"a region is a {kind}, not a Polygon")
        polygons += [_polygon(name, part) for part in parts]
    return polygons


def _aperio(root: ET.Element) -> list[Polygon]:
    """Each layer (Annotation) has a name; each of its Regions is one ring of Vertices.

    A region marked NegativeROA is a hole in the layer's regions that hold it.
    """
    polygons = []
    for layer in root.iter("Annotation"):
        rings: list[NDArray[np.float64]] = []
        holes: list[NDArray[np.float64]] = []
        for region in layer.iter("Region"):
            vertices = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
            if len(vertices) >= 3:
                (holes if region.get("NegativeROA") == "1" else rings).append(np.array(vertices))
        for ring in rings:
            inside = [hole for hole in holes if _holds(ring, hole)]
            polygons.append(_polygon(layer.get("Name") or "", [ring, *inside]))
    return polygons


def _holds(ring: NDArray[np.float64], hole: NDArray[np.float64]) -> bool:
    x, y = hole[0]
    return bool(cv2.pointPolygonTest(ring.astype(np.float32), (float(x), float(y)), False) >= 0)


def _polygon(name: str, rings: Any) -> Polygon:
    found = _NAMES.get(name.strip().lower().replace("_", " "))
    if found is None:
        raise ValueError(
            f"a region is called {name!r}; known are {', '.join(filter(None, _NAMES))}"
        )
    arrays = tuple(np.asarray(ring, np.float64)[:, :2] for ring in rings)
    if not arrays or any(len(ring) < 3 for ring in arrays):
        raise ValueError("a region has fewer than three corners")
    return Polygon(found, arrays)
