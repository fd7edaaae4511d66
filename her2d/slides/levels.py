"""Read rectangles from the pyramid of a scan, for a viewer.

Unlike `Slide`, which reports what it cannot read, this shows as much of a scan as can be decoded.
"""

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import BlockReader, Blocks, copy_rectangle
from her2d.slides.errors import RefusedError, slide_errors
from her2d.slides.fallback import FallbackBlocks, FinerLevel, finer_level
from her2d.slides.formats.opening import open_source
from her2d.slides.formats.region_blocks import NO_FD, RegionBlocks
from her2d.slides.formats.source import Source
from her2d.slides.glass import glass_color
from her2d.slides.images import image_of, tifffile_on
from her2d.slides.integrity import open_regular
from her2d.slides.metadata import read_fields
from her2d.slides.overlaps import check_tiles_do_not_overlap
from her2d.slides.pyramid import Level, find_pyramid
from her2d.slides.structure import read_structure

_UNREADABLE = 225  # a neutral grey, which stained tissue never has


@dataclass(frozen=True, slots=True)
class SlideLevel:
    """One level of the pyramid.

    Attributes:
        width, height: pixels of the level.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
    """

    width: int
    height: int
    downsample_x: float
    downsample_y: float


class SlideLevels:
    """The levels of an open scan. Several threads may call `region` at a time.

    The file is closed when the object is garbage-collected.

    Attributes:
        levels: finest first.
    """

    def __init__(self, fd: int, found: list[tuple[Level, Blocks]]) -> None:
        self.levels = tuple(
            SlideLevel(
                level.width,
                level.height,
                level.downsample_x,
                level.downsample_y,
            )
            for level, _ in found
        )
        self._blocks: Sequence[BlockReader] = _with_fallback(found)
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a rectangle of a level.

        Args:
            level: index into `levels`.
            x, y: upper left corner in pixels of the level.
            width, height: size in pixels of the level.

        Returns:
            uint8 (height, width, 3) RGB; blocks that cannot be read from any level are grey.

        Raises:
            ValueError: the rectangle is empty or reaches beyond the level.
            OSError: the storage failed.
        """
        size = self.levels[level]
        if not (0 <= x < x + width <= size.width and 0 <= y < y + height <= size.height):
            raise ValueError(
                f"{width} x {height} pixels from ({x}, {y}) on are not within level {level}"
            )
        blocks = self._blocks[level]
        pixels = np.full((height, width, 3), _UNREADABLE, np.uint8)

        def read(column: int, row: int) -> NDArray[np.uint8] | None:
            try:
                return blocks.read(self._fd, column, row)
            except RefusedError:
                return None

        copy_rectangle(pixels, x, y, blocks.layout, read)
        return pixels


def _with_fallback(found: list[tuple[Level, Blocks]]) -> list[FallbackBlocks]:
    """Return the blocks of each level, with the next finer level behind it."""
    chain: list[FallbackBlocks] = []
    for number, (level, blocks) in enumerate(found):
        finer = None
        behind = finer_level([each.downsample for each, _ in found], number)
        if behind is not None:
            below, below_blocks = found[behind][0], chain[behind]
            finer = FinerLevel(
                lambda _fd, opened=below_blocks: opened,  # type: ignore[misc]
                level.downsample_x / below.downsample_x,
                level.downsample_y / below.downsample_y,
            )
        chain.append(FallbackBlocks(blocks, finer))
    return chain


class _RegionLevels(SlideLevels):
    """The levels of a scan that another library reads."""

    def __init__(self, source: Source) -> None:
        self.levels = tuple(
            SlideLevel(level.width, level.height, level.downsample_x, level.downsample_y)
            for level in source.levels
        )
        self._blocks = [RegionBlocks(source, number) for number in range(len(self.levels))]
        self._fd = NO_FD
        weakref.finalize(self, source.close)


def open_levels(path: Path) -> SlideLevels:
    """Open a scan for viewing. Unlike `open_slide`, this needs no magnification.

    Raises:
        SlideError: the file is not a readable slide.
        SlideUnavailableError: the storage failed.
    """
    with slide_errors(path):
        if (source := open_source(path)) is not None:
            return _RegionLevels(source)
        fd = open_regular(path)
        try:
            directories = read_structure(fd)
            with tifffile_on(fd, directories) as tiff:
                images = [image_of(tiff, index, found) for index, found in enumerate(directories)]
                check_tiles_do_not_overlap(images)
                pyramid = find_pyramid(images, fd)
                page = pyramid.levels[0].image.page
                glass = glass_color(page, read_fields(page.description))
                found = [(level, Blocks(level.image, glass)) for level in pyramid.levels]
            return SlideLevels(fd, found)
        except BaseException:
            os.close(fd)
            raise
