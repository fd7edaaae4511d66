"""A scan's own pyramid, a rectangle at a time: what a viewer pans over."""

import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import Blocks
from her2d.slides.errors import RefusedError
from her2d.slides.integrity import complete_structure, open_regular
from her2d.slides.pyramid import Level, find_pyramid
from her2d.slides.reader import image_of, slide_errors, tifffile_on

_UNREADABLE = 225  # grey no stain has


@dataclass(frozen=True, slots=True)
class SlideLevel:
    """One level; `downsample_x`, `downsample_y` are level-0 pixels per pixel of it."""

    width: int
    height: int
    downsample_x: float
    downsample_y: float


class SlideLevels:
    """An open scan's levels, finest first. `region` may run on any number of threads.

    The file closes when nobody holds the object any more.
    """

    def __init__(self, fd: int, found: list[tuple[Level, Blocks]]) -> None:
        self.levels = tuple(
            SlideLevel(
                level.image.directory.width,
                level.image.directory.height,
                level.downsample_x,
                level.downsample_y,
            )
            for level, _ in found
        )
        self._blocks = [blocks for _, blocks in found]
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a rectangle within a level: uint8 (height, width, 3) RGB.

        Blocks that cannot be decoded are grey.

        Raises:
            ValueError: the rectangle is empty or reaches beyond the level.
            OSError: the storage failed.
        """
        size = self.levels[level]
        if not (0 <= x < x + width <= size.width and 0 <= y < y + height <= size.height):
            raise ValueError(f"({x}, {y}, {width}, {height}) is not within level {level}")
        blocks = self._blocks[level]
        across, down = blocks.layout.block_width, blocks.layout.block_height
        pixels = np.full((height, width, 3), _UNREADABLE, np.uint8)
        for row in range(y // down, (y + height - 1) // down + 1):
            for column in range(x // across, (x + width - 1) // across + 1):
                try:
                    block = blocks.read(self._fd, column, row)
                except RefusedError:
                    continue
                left, top = column * across, row * down
                right, bottom = left + block.shape[1], top + block.shape[0]
                x0, x1 = max(x, left), min(x + width, right)
                y0, y1 = max(y, top), min(y + height, bottom)
                part = block[y0 - top : y1 - top, x0 - left : x1 - left]
                pixels[y0 - y : y1 - y, x0 - x : x1 - x] = part
        return pixels


def open_levels(path: Path) -> SlideLevels:
    """Open a scan to look at it: unlike `open_slide` it needs no magnification.

    Raises:
        SlideError: the file is not a readable slide.
        SlideUnavailableError: the storage failed.
    """
    with slide_errors(path):
        fd = open_regular(path)
        try:
            directories = complete_structure(fd)
            with tifffile_on(fd) as tiff:
                images = [image_of(tiff, index, found) for index, found in enumerate(directories)]
                found = [(level, Blocks(level.image)) for level in find_pyramid(images)]
            return SlideLevels(fd, found)
        except BaseException:
            os.close(fd)
            raise
