"""Parse QuPath's GeoJSON and Aperio's XML into regions in level-0 pixels."""

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.research.training.region_classes import RegionClass, RegionClasses
from her2d.system.numerals import read_number

Ring: TypeAlias = NDArray[np.float64]
"""x and y of K >= 3 corners in level-0 pixels, float64 (K, 2)."""

_LARGEST_PX = 1e7
"""Beyond the width and height of any scan."""
_NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
# QuPath's objects that programs make, not people; before 0.4 it wrote its class as the id.
_FORMER_TYPES = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "PathRootObject": "root",
    "TMACoreObject": "tma_core",
}


@dataclass(frozen=True, slots=True)
class Region:
    """An area of one class.

    Attributes:
        region_class: The class.
        outlines: The area is the union of these; each is an outer ring followed by its holes.
        cutouts: Rings that are cut out of the union.
    """

    region_class: RegionClass
    outlines: tuple[tuple[Ring, ...], ...]
    cutouts: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a file.

    Attributes:
        found: Regions of all classes but IGNORED.
        dropped: Number of regions that were left out, by name or kind.
        classes: Class of each region name in the file.
    """

    found: list[Region] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    classes: dict[str, RegionClass] = field(default_factory=dict)


def parse_geojson(document: Any, classes: RegionClasses) -> Regions:
    """Parse QuPath's export, leaving out points, lines and all objects but annotations.

    Args:
        document: The parsed JSON.
        classes: Classes of the region names.

    Raises:
        ValueError, KeyError, TypeError: The document is not valid, or a class is not known.
    """
    features = document if isinstance(document, list) else document.get("features", [document])
    regions = Regions()
    for feature in features:
        if (kind := _object_type(feature)) != "annotation":
            regions.dropped[kind] += 1
            continue
        name = _classification(feature.get("properties") or {})
        geometry = feature["geometry"]
        match geometry["type"]:
            case "Polygon":
                parts = [geometry["coordinates"]]
            case "MultiPolygon":
                parts = geometry["coordinates"]
            case kind if kind in _NO_AREA:
                regions.dropped[kind] += 1
                continue
            case kind:
                raise ValueError(f"a region is a {kind}, not a polygon")
        found = regions.classes[name] = classes.of(name)
        if found is RegionClass.IGNORED:
            regions.dropped[name] += 1
            continue
        outlines = tuple(tuple(_ring(ring) for ring in part) for part in parts)
        if not all(outlines):
            raise ValueError("a region does not have an outline")
        regions.found.append(Region(found, outlines))
    return regions


def parse_aperio(root: ET.Element, classes: RegionClasses) -> Regions:
    """Parse Aperio's XML, in which each Annotation element is a named layer of regions.

    Regions marked NegativeROA are cut out of all regions of their layer.

    Args:
        root: Root element of the file.
        classes: Classes of the layers' names.

    Raises:
        ValueError, KeyError: A class is not known, or a region is not a polygon.
    """
    regions = Regions()
    for layer in root.iter("Annotation"):
        name = layer.get("Name") or ""
        found = regions.classes[name] = classes.of(name)
        outlines: list[tuple[Ring, ...]] = []
        cutouts: list[Ring] = []
        for number, region in enumerate(layer.iter("Region"), 1):
            if found is RegionClass.IGNORED:
                regions.dropped[name] += 1
                continue
            ring = _vertices(region, f"region {number} of the layer {name!r}")
            if region.get("NegativeROA") == "1":
                cutouts.append(ring)
            else:
                outlines.append((ring,))
        if outlines:
            regions.found.append(Region(found, tuple(outlines), tuple(cutouts)))
    return regions


def _object_type(feature: dict[str, Any]) -> str:
    """Return what kind of object a feature is; one that says nothing is an annotation."""
    properties = feature.get("properties") or {}
    found = properties.get("objectType") or properties.get("object_type")
    return str(found or _FORMER_TYPES.get(str(feature.get("id")), "annotation")).lower()


def _classification(properties: dict[str, Any]) -> str:
    """Return a region's name, empty without a class. QuPath writes either `name` or `names`."""
    classification = properties.get("classification")
    if classification is None:
        return ""
    parts = classification.get("names") or [classification.get("name")]
    if not all(isinstance(part, str) and part.strip() for part in parts):
        raise ValueError("a region's classification does not have a name")
    return ": ".join(parts)


def _vertices(region: ET.Element, what: str) -> Ring:
    found = [[read_number(v.attrib[axis]) for axis in "XY"] for v in region.iter("Vertex")]
    if len(found) < 3:
        raise ValueError(
            f"{what} has {len(found)} corners, like an ellipse or a ruler; draw it as a polygon or"
            " remove it"
        )
    return _measured(np.array(found, np.float64))  # of None, NumPy makes NaN


def _ring(coordinates: Any) -> Ring:
    try:
        ring = np.asarray(coordinates, np.float64)[:, :2]
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError("a region's corners are not pairs of numbers") from error
    if len(ring) < 3:
        raise ValueError("a region has fewer than three corners")
    return _measured(ring)


def _measured(ring: Ring) -> Ring:
    """Return a ring whose corners are places on a scan; OpenCV draws others anywhere, or nowhere.

    Raises:
        ValueError: A coordinate is not a number, or further away than any scan is large.
    """
    if not (np.abs(ring) < _LARGEST_PX).all():
        raise ValueError("a region has a corner whose coordinates are not numbers of pixels")
    return ring
