"""Export GeoJSON for QuPath, with a rectangle for each tile and an outline for each tumour region.

QuPath reads a FeatureCollection whose features carry `objectType`, `classification` and
`measurements` in their properties; coordinates are level-0 pixels
(https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html). Features are
written one by one.

The outlines are annotations, with the names that `her2d prepare` reads: Tumor is all tumour, and
HER2 high lies within it. Tiles are not annotations, and `prepare` leaves them out.
"""

import json
import uuid
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from her2d.results.export.outlines import (
    LEAST_UM2,
    LeftOut,
    Outline,
    Outlines,
    tumor_outlines,
)
from her2d.results.stored_run import StoredRun

_CLASSES: dict[str, tuple[str, tuple[int, int, int]]] = {
    "strong": ("HER2 high", (121, 67, 24)),
    "weak": ("Tumor", (84, 110, 160)),
    "tumor": ("Tumor", (84, 110, 160)),
    "non_tumor": ("Other", (120, 160, 120)),
    "unreadable": ("Exclude", (200, 60, 60)),
}
_NAMESPACE = uuid.UUID("7d0fb7d0-6d5b-5c41-9f4f-5d3a1e5a0c11")

Feature = dict[str, Any]


def write_geojson(run: StoredRun, file: IO[str], *, least_um2: float = LEAST_UM2) -> LeftOut:
    """Write a run's tiles and outlines.

    Args:
        run: the run.
        file: where to.
        least_um2: the area from which a region of tumour is outlined.

    Returns:
        What of the tumour is not outlined.

    Raises:
        OSError, PicturesMissing, TilesPruned
    """
    outlines = tumor_outlines(run, run.pictures(), least_um2=least_um2)
    file.write('{"type": "FeatureCollection", "features": [')
    separator = "\n"
    for feature in _features(run, outlines):
        file.write(separator + json.dumps(feature, allow_nan=False))
        separator = ",\n"
    file.write("\n]}\n")
    return outlines.left_out


def _features(run: StoredRun, outlines: Outlines) -> Iterator[Feature]:
    for number, outline in enumerate(outlines):
        yield _outline_feature(run, number, outline, outlines.resolution_um)
    for index in range(len(run.tiles.tile_class)):
        yield _tile_feature(run, index)


def _outline_feature(
    run: StoredRun, number: int, outline: Outline, resolution_um: float
) -> Feature:
    return _feature(
        run,
        f"outline {number}",
        "annotation",
        "strong" if outline.strong else "weak",
        {
            "type": "Polygon",
            "coordinates": [
                _coordinates(shapely.get_coordinates(ring))
                for ring in (outline.polygon.exterior, *outline.polygon.interiors)
            ],
        },
        {"Area mm^2": round(outline.area_mm2, 6), "Outline resolution um": resolution_um},
    )


def _tile_feature(run: StoredRun, index: int) -> Feature:
    tiles = run.tiles
    row, column = int(tiles.row[index]), int(tiles.column[index])
    left, top, right, bottom = run.geometry.box(column, row)
    measured = {"Tumour pixels (4x)": float(tiles.tumor_pixels[index])}
    probabilities = {"p(strong)": tiles.p_strong[index]} | {
        f"p(strong) fold {fold}": p for fold, p in enumerate(tiles.p_folds[index], start=1)
    }
    if tiles.attention is not None:
        probabilities["attention"] = tiles.attention[index]
    measured |= {name: _rounded(p) for name, p in probabilities.items() if not np.isnan(p)}
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return _feature(
        run,
        f"tile {column} {row}",
        "tile",
        tiles.tile_class[index],
        {"type": "Polygon", "coordinates": [_coordinates(np.array(ring))]},
        measured,
    )


def _feature(
    run: StoredRun,
    name: str,
    kind: str,
    tile_class: str,
    geometry: Feature,
    measurements: dict[str, float],
) -> Feature:
    label, color = _CLASSES[tile_class]
    # The same run always has the same ids, so that a second import can be recognised.
    key = f"{run.result.content_hash} {run.result.run_id} {name}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, key)),
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {"name": label, "color": list(color)},
            "isLocked": True,
            "measurements": measurements,
        },
    }


def _coordinates(corners: NDArray[np.float64]) -> list[list[float]]:
    """Return corners to a tenth of a pixel of level 0, and whole numbers without a fraction."""
    return [
        [int(value) if value.is_integer() else value for value in corner]
        for corner in np.round(corners, 1).tolist()
    ]


def _rounded(probability: np.float32) -> float:
    return round(float(probability), 5)
