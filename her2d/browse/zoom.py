"""Deep-zoom tiles of a scan. Each zoom level has half the size of the next; the last is level 0.

Levels are numbered as in Deep Zoom (https://openseadragon.github.io/examples/tilesource-dzi/):
level n has at most 2 ** n pixels along its longer side.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.slides.levels import SlideLevels

TILE = 512
_MAX_REDUCTION = 8
_TOLERANCE = 1.02  # pyramid levels are rounded; 4.003 is used for 4

Image = NDArray[np.uint8]


class NoSuchTile(Her2dError):  # noqa: N818  the name is the problem
    """The pyramid has no such tile."""


@dataclass(frozen=True, slots=True)
class Box:
    """A tile's rectangle in level-0 pixels, and the size of its picture in pixels."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int
    scale: int


@dataclass(frozen=True, slots=True)
class ZoomGrid:
    """The zoom levels of a scan of `width` x `height` level-0 pixels."""

    width: int
    height: int

    @property
    def max_level(self) -> int:
        return math.ceil(math.log2(max(self.width, self.height)))

    def box(self, level: int, column: int, row: int) -> Box:
        """Return the rectangle of a tile. Raises NoSuchTile."""
        if not 0 <= level <= self.max_level:
            raise NoSuchTile(f"There is no zoom level {level}.")
        scale = 1 << (self.max_level - level)
        left, top = column * TILE * scale, row * TILE * scale
        if not (0 <= left < self.width and 0 <= top < self.height):
            raise NoSuchTile(f"There is no tile {column}, {row} at zoom level {level}.")
        right = min(left + TILE * scale, self.width)
        bottom = min(top + TILE * scale, self.height)
        width, height = (-(-(right - left) // scale), -(-(bottom - top) // scale))
        return Box(left, top, right, bottom, width, height, scale)


def tile_from_scan(levels: SlideLevels, box: Box) -> Image | None:
    """Read a tile from the nearest finer level of the scan, averaged: uint8 (height, width, 3).

    Returns None if all finer levels are so much finer that reading them would take too long.

    Raises:
        OSError: the file cannot be read.
    """
    fine = [
        (index, level)
        for index, level in enumerate(levels.levels)
        if max(level.downsample_x, level.downsample_y) <= box.scale * _TOLERANCE
    ]
    index, level = max(fine, key=lambda found: found[1].downsample_x)
    if box.scale / level.downsample_x > _MAX_REDUCTION * _TOLERANCE:
        return None
    x, right = _span(box.left, box.right, level.downsample_x, level.width)
    y, bottom = _span(box.top, box.bottom, level.downsample_y, level.height)
    pixels = levels.region(index, x, y, right - x, bottom - y)
    return _resized(pixels, box)


def tile_from_picture(picture: Image, grid: ZoomGrid, box: Box) -> Image:
    """Cut a tile from a small picture of the whole slide, even if that is coarser."""
    height, width = picture.shape[:2]
    x, right = _span(box.left, box.right, grid.width / width, width)
    y, bottom = _span(box.top, box.bottom, grid.height / height, height)
    return _resized(picture[y:bottom, x:right], box)


def _span(start: int, stop: int, downsample: float, length: int) -> tuple[int, int]:
    first = min(round(start / downsample), length - 1)
    return first, max(first + 1, min(round(stop / downsample), length))


def _resized(pixels: Image, box: Box) -> Image:
    size = (box.width, box.height)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
