"""Writing rendered slides as Motic whole-slide TIFFs.

A file has a tiled JPEG pyramid, a thumbnail, a label and a macro image, each identified by its
ImageDescription. Each level is the area average of the previous one, which is kept in a file on
disk, so that at most a row of tiles is in memory.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tifffile
import zxingcpp
from numpy.typing import NDArray

from her2d.method import MAGNIFICATION, TILE_PX, UM_PER_PX
from her2d.simulator.plan import SlidePlan
from her2d.simulator.render import render_ihc_region, render_region

_QUALITY = 75
_SMALLEST_LEVEL = 1024
_THUMBNAIL_SIDE = 768
_BIGTIFF_PIXELS = 1 << 31
_BACKGROUND_COLOR = 16514557
_ROUNDING = 1e-9
_OBJECTIVES_GRID = 0.05  # readers take 4x by the objective where it is this near

Image = NDArray[np.uint8]
Render = Callable[[int, int, int, int], Image]
"""A function of x, y, width and height, in pixels of the finest level.

Returns uint8 (height, width, 3) RGB.
"""


def write_he_slide(plan: SlidePlan, path: Path) -> None:
    """Write the H&E slide.

    Raises:
        OSError: the file cannot be written.
    """

    magnification = pixels_at(plan.um_per_px)

    def render(x: int, y: int, width: int, height: int) -> Image:
        return render_region(plan, x, y, width, height, magnification=magnification).rgb

    _write(plan, path, render, size=_full_size(plan))


def write_ihc_slide(plan: SlidePlan, path: Path) -> None:
    """Write the HER2 IHC slide, which has the H&E slide's grid at 4x at every magnification.

    Readers use only 4x, and at 40x it would take as long as the H&E slide.

    Raises:
        OSError: the file cannot be written.
    """
    grid = grid_of(plan)
    at_4x = replace(plan, magnification=MAGNIFICATION, scale=grid.um_per_px / UM_PER_PX)

    def render(x: int, y: int, width: int, height: int) -> Image:
        return render_ihc_region(plan, x, y, width, height, magnification=pixels_at(grid.um_per_px))

    _write(at_4x, path, render, size=(grid.width, grid.height))


def describe(plan: SlidePlan, width: int, height: int) -> str:
    """Return the ImageDescription (tag 270) of level 0, as the software of Motic writes it."""
    return (
        f"Motic V1.0.0\n{width}x{height} [0,0 {width}x{height}] [{TILE_PX}x{TILE_PX}] JPEG/RGB"
        f" Q = {_QUALITY}|AppMag = {plan.magnification:g}|MPP = {plan.um_per_px:g}"
        f"|BackgroundColor = {_BACKGROUND_COLOR}|Barcode = {plan.barcode}"
    )


def describe_level(width: int, height: int, level_width: int, level_height: int) -> str:
    """Return the ImageDescription (tag 270) of another level of a scan of width x height."""
    return (
        f"Motic V1.0.0\n{width}x{height} [0,0 {width}x{height}] [{TILE_PX}x{TILE_PX}]"
        f" -> {level_width}x{level_height} JPEG/RGB Q = {_QUALITY}"
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """The 4x grid over an H&E slide, as readers lay it."""

    width: int
    height: int
    um_per_px: float


def grid_of(plan: SlidePlan) -> Grid:
    """Return the grid over the H&E slide: its 4x by the objective, if that is within 5 %.

    It is laid over the pyramid's level next to 4x, and halving drops odd pixels.
    """
    within = abs(plan.scale - 1) <= _OBJECTIVES_GRID
    um_per_px = UM_PER_PX * plan.scale if within else UM_PER_PX
    (width, height), magnification, level_um = _full_size(plan), plan.magnification, plan.um_per_px
    while magnification >= 2 * MAGNIFICATION:
        width, height, magnification = width // 2, height // 2, magnification / 2
        level_um *= 2
    factor = level_um / um_per_px
    return Grid(int(width * factor + _ROUNDING), int(height * factor + _ROUNDING), um_per_px)


def pixels_at(um_per_px: float) -> float:
    """Return the magnification at which a pixel has a size."""
    return UM_PER_PX * MAGNIFICATION / um_per_px


def _full_size(plan: SlidePlan) -> tuple[int, int]:
    """Return the width and height of the finest level of the H&E slide."""
    scale = UM_PER_PX / plan.um_per_px
    return round(plan.width * scale), round(plan.height * scale)


def _write(plan: SlidePlan, path: Path, render: Render, *, size: tuple[int, int]) -> None:
    width, height = size
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".levels-") as folder,
        tifffile.TiffWriter(path, bigtiff=width * height > _BIGTIFF_PIXELS) as tiff,
    ):
        finer = _Level(Path(folder), width, height)
        _write_level(tiff, _rendered(render, finer), finer.shape, describe(plan, width, height))
        thumbnail = _fitted(finer.half, _THUMBNAIL_SIDE)
        _write_thumbnail(tiff, thumbnail, width, height)
        while max(finer.half.shape[:2]) > _SMALLEST_LEVEL // 2:
            level = _Level(Path(folder), finer.half.shape[1], finer.half.shape[0])
            text = describe_level(width, height, level.shape[1], level.shape[0])
            _write_level(tiff, _copied(finer.half, level), level.shape, text)
            finer = level
        _write_lzw(tiff, _label(plan), "label")
        _write_lzw(tiff, _macro(thumbnail), "macro")


class _Level:
    """A level that is being written, with its half-size copy in a file on disk."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self.shape = (height, width, 3)
        self.half: Image = np.memmap(
            folder / f"{width}x{height}.raw",
            np.uint8,
            "w+",
            shape=(max(1, height // 2), max(1, width // 2), 3),
        )

    def boxes(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield x, y, width and height of each tile, row by row."""
        height, width, _ = self.shape
        for y in range(0, height, TILE_PX):
            for x in range(0, width, TILE_PX):
                yield x, y, min(TILE_PX, width - x), min(TILE_PX, height - y)

    def keep_half(self, x: int, y: int, tile: Image) -> None:
        rows, columns = tile.shape[0] // 2, tile.shape[1] // 2
        if rows and columns:
            small = cv2.resize(
                tile[: rows * 2, : columns * 2], (columns, rows), interpolation=cv2.INTER_AREA
            )
            self.half[y // 2 : y // 2 + rows, x // 2 : x // 2 + columns] = small


def _rendered(render: Render, level: _Level) -> Iterator[Image]:
    for x, y, width, height in level.boxes():
        tile = render(x, y, width, height)
        level.keep_half(x, y, tile)
        yield _padded(tile)


def _copied(source: Image, level: _Level) -> Iterator[Image]:
    for x, y, width, height in level.boxes():
        tile = np.ascontiguousarray(source[y : y + height, x : x + width])
        level.keep_half(x, y, tile)
        yield _padded(tile)


def _padded(tile: Image) -> Image:
    height, width = tile.shape[:2]
    if (height, width) == (TILE_PX, TILE_PX):
        return tile
    return np.pad(tile, ((0, TILE_PX - height), (0, TILE_PX - width), (0, 0)), constant_values=255)


def _write_level(
    tiff: tifffile.TiffWriter, tiles: Iterator[Image], shape: tuple[int, ...], description: str
) -> None:
    tiff.write(
        tiles,
        shape=shape,
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": _QUALITY},
        description=description,
        metadata=None,
        maxworkers=1,
    )


def _write_thumbnail(tiff: tifffile.TiffWriter, image: Image, width: int, height: int) -> None:
    tiff.write(
        image,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": _QUALITY},
        rowsperstrip=16,
        description=f"Motic V1.0.0\n{width}x{height} -> {image.shape[1]}x{image.shape[0]}",
        metadata=None,
    )


def _write_lzw(tiff: tifffile.TiffWriter, image: Image, name: str) -> None:
    tiff.write(
        image,
        photometric="rgb",
        compression="lzw",
        description=f"Motic V1.0.0\n{name} {image.shape[1]}x{image.shape[0]}",
        metadata=None,
    )


def _fitted(image: Image, side: int) -> Image:
    scale = min(1.0, side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _label(plan: SlidePlan) -> Image:
    label = np.full((160, 160, 3), 250, np.uint8)
    if plan.barcode:
        symbol = zxingcpp.create_barcode(plan.barcode, zxingcpp.DataMatrix)
        bars = np.asarray(symbol.to_image(scale=5, add_quiet_zones=False))[:75, :130]
        label[15 : 15 + bars.shape[0], 30 : 30 + bars.shape[1]] = bars[..., None]
    cv2.putText(
        label, plan.barcode, (30, 110), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 1, cv2.LINE_AA
    )
    return label


def _macro(thumbnail: Image) -> Image:
    macro = np.full((160, 456, 3), 225, np.uint8)
    small = _fitted(thumbnail, 140)
    macro[10 : 10 + small.shape[0], 200 : 200 + small.shape[1]] = small
    return macro
