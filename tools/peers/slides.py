"""Slides that all contestants read: one to score, and the three layouts to read alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile

from her2d.inference.engine import Tiles
from her2d.pipeline.quality import QualityLimits, measure_tile
from her2d.simulator.tissue import tissue_tiles
from tools.benchmark.slide import write_tissue_slide

_TILE = 512
_RENDERED = 24
_SIDE, _FINE_TILE, _ZOOM = 4, 256, 10


@dataclass(frozen=True, slots=True)
class Layout:
    """A slide to read alone.

    Attributes:
        name: in tables.
        path: the file.
        scale: pixels of its finest level for one at 4x.
        passes: how often it is read in one measurement, so that this takes about a second.
    """

    name: str
    path: Path
    scale: int
    passes: int


def whole_tissue(limits: QualityLimits) -> Tiles:
    """Render tissue without artefacts, which her2d leaves out of its counts and others do not."""
    tiles = tissue_tiles(_RENDERED)
    return np.stack([tile for tile in tiles if measure_tile(tile, limits).artefacts is None])


def write_layouts(folder: Path, tissue: Tiles) -> tuple[Layout, ...]:
    """Write the layouts into a folder: native 4x; 40x with a 10x level; 40x alone."""
    # By this ending fastslide knows an Aperio scan, and by that its levels.
    native, levels, flat = (folder / name for name in ("4x.tif", "40x-and-10x.svs", "40x.svs"))
    if not flat.exists():
        write_tissue_slide(native, tissue, rows=26)
        _write_aperio(levels, tissue, with_10x=True)
        _write_aperio(flat, tissue, with_10x=False)
    return (
        Layout("native 4x", native, 1, 1),
        Layout("40x with a 10x level", levels, _ZOOM, 4),
        Layout("40x alone", flat, _ZOOM, 1),
    )


def _write_aperio(path: Path, tissue: Tiles, *, with_10x: bool) -> None:
    side, small = _SIDE * _TILE * _ZOOM, _SIDE * _TILE * _ZOOM // 4
    about = f"Aperio Image Library v12.0.15\n{side}x{side} [0,0 {side}x{side}]"
    kind = f"({_FINE_TILE}x{_FINE_TILE}) JPEG/RGB Q=75"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        _write_level(tiff, tissue, _ZOOM, f"{about} {kind}|AppMag = 40|MPP = 0.25")
        # Readers take the second image of such a file for its thumbnail.
        thumbnail = cv2.resize(tissue[0], (256, 256)).astype(np.uint8, copy=False)
        tiff.write(
            thumbnail,
            photometric="rgb",
            compression="jpeg",
            rowsperstrip=16,
            description=f"{about} -> 256x256 - |AppMag = 40|MPP = 0.25",
            metadata=None,
        )
        if with_10x:
            _write_level(tiff, tissue, _ZOOM / 4, f"{about} {kind} -> {small}x{small} {kind}")


def _write_level(tiff: tifffile.TiffWriter, tissue: Tiles, zoom: float, description: str) -> None:
    side = round(_SIDE * _TILE * zoom)
    tiff.write(
        _tiles(tissue, zoom),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(_FINE_TILE, _FINE_TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 75},
        description=description,
        metadata=None,
        maxworkers=1,
    )


def _tiles(tissue: Tiles, zoom: float) -> Iterator[Tiles]:
    """Yield the blocks of a slide of `_SIDE` x `_SIDE` tiles, enlarged, row by row."""
    side = round(_TILE * zoom)
    for row in range(_SIDE):
        numbers = range(row * _SIDE, (row + 1) * _SIDE)
        strip = np.concatenate([tissue[number % len(tissue)] for number in numbers], axis=1)
        large = cv2.resize(strip, (_SIDE * side, side), interpolation=cv2.INTER_CUBIC)
        for top in range(0, side, _FINE_TILE):
            for left in range(0, _SIDE * side, _FINE_TILE):
                block = large[top : top + _FINE_TILE, left : left + _FINE_TILE]
                yield np.ascontiguousarray(block, np.uint8)
