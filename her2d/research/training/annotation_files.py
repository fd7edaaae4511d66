"""What annotation programs write -> regions in level-0 pixels: QuPath's GeoJSON, Aperio's XML."""

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.research.training.region_classes import RegionClass, RegionClasses

Ring: TypeAlias = NDArray[np.float64]
"""float64 (K, 2), x and y at level 0; K >= 3."""

_NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


@dataclass(frozen=True, slots=True)
class Region:
    """An area of one class.

    Attributes:
        outlines: any of them holds what belongs to the area; each is an outer ring and its holes.
        without: none of these belongs to it, whatever the outlines hold.
    """

    region_class: RegionClass
    outlines: tuple[tuple[Ring, ...], ...]
    without: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True)
class Regions:
    """A file's regions.

    Attributes:
        found: of every class but IGNORED.
        dropped: how many of what name or kind were left out.
        classes: what each name that is in the file was taken for.
    """

    found: list[Region] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    classes: dict[str, RegionClass] = field(default_factory=dict)


def parse_geojson(document: Any, classes: RegionClasses) -> Regions:
    """Features of QuPath's export; points and lines are left out, for they have no area.

    Raises:
        ValueError, KeyError, TypeError: it is no such document, or a class is not known.
    """
    features = document if isinstance(document, list) else document.get("features", [document])
    regions = Regions()
    for feature in features:
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
                raise ValueError(f"a region is a {kind}, not a Polygon")
        found = regions.classes[name] = classes.of(name)
        if found is RegionClass.IGNORED:
            regions.dropped[name] += 1
            continue
        outlines = tuple(tuple(_ring(ring) for ring in part) for part in parts)
        if not all(outlines):
            raise ValueError("a region has no outline")
        regions.found.append(Region(found, outlines))
    return regions


def parse_aperio(root: ET.Element, classes: RegionClasses) -> Regions:
    """Each layer (Annotation) has a name; each of its Regions is one ring of Vertices.

    Regions marked NegativeROA are cut out of the layer, wherever they lie.

    Raises:
        ValueError, KeyError: a class is not known, or a region is no polygon.
    """
    regions = Regions()
    for layer in root.iter("Annotation"):
        name = layer.get("Name") or ""
        found = regions.classes[name] = classes.of(name)
        outlines: list[tuple[Ring, ...]] = []
        without: list[Ring] = []
        for number, region in enumerate(layer.iter("Region"), 1):
            if found is RegionClass.IGNORED:
                regions.dropped[name] += 1
                continue
            ring = _vertices(region, f"region {number} of the layer {name!r}")
            if region.get("NegativeROA") == "1":
                without.append(ring)
            else:
                outlines.append((ring,))
        if outlines:
            regions.found.append(Region(found, tuple(outlines), tuple(without)))
    return regions


def _classification(properties: dict[str, Any]) -> str:
    """A region's name, empty where it has no class. QuPath writes `name`, or its parts: `names`."""
    classification = properties.get("classification")
    if classification is None:
        return ""
    parts = classification.get("names") or [classification.get("name")]
    if not all(isinstance(part, str) and part.strip() for part in parts):
        raise ValueError("a region's classification has no name")
    return ": ".join(parts)


def _vertices(region: ET.Element, what: str) -> Ring:
    found = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
    if len(found) < 3:
        raise ValueError(
            f"{what} has {len(found)} corners, as ellipses and rulers have: draw it as a polygon,"
            " or remove it"
        )
    return np.array(found)


def _ring(coordinates: Any) -> Ring:
    ring = np.asarray(coordinates, np.float64)[:, :2]
    if len(ring) < 3:
        raise ValueError("a region has fewer than three corners")
    return ring
