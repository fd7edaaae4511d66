"""Make the blocks that a level of the pyramid lacks from the next finer level.

A lower level holds nothing that level 0 does not hold, so what it lacks can be made again: a block
that cannot be decoded, that lies beyond the end of a truncated file, or that is not stored although
the finer level has pixels there.
"""

import errno
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import BlockLayout, Blocks
from her2d.slides.errors import RefusedError, SlideError
from her2d.slides.resample import AxisWeights, area_parts, axis_weights

_BAND_BYTES = 64 * 2**20  # of sums; a rectangle that needs more is averaged in bands
_FINER_BY = 1.5  # levels differ by 2 or 4; this bounds the number of levels behind a level


def finer_level(downsamples: Sequence[float], number: int) -> int | None:
    """Return the number of the level that replaces what level `number` lacks, None for level 0.

    Args:
        downsamples: of all levels, finest first.
        number: of a level.
    """
    finer = [n for n in range(number) if downsamples[n] * _FINER_BY <= downsamples[number]]
    return max(finer) if finer else (0 if number else None)


@dataclass(frozen=True, slots=True)
class _Span:
    """Pixels [start, stop) along one axis of a level, and the finer level's pixels below them.

    Attributes:
        start, stop: pixels of the level.
        scale: pixels of the finer level per pixel of the level.
        length: pixels of the finer level along the axis.
    """

    start: int
    stop: int
    scale: float
    length: int

    @property
    def finer(self) -> tuple[int, int]:
        """The first and last (exclusive) pixel of the finer level."""
        return (
            min(math.floor(self.start * self.scale), self.length),
            min(math.ceil(self.stop * self.scale), self.length),
        )

    def blocks(self, side: int) -> range:
        """The finer level's blocks of `side` pixels that hold its pixels."""
        first, last = self.finer
        return range(first // side, -(-last // side) if last > first else first // side)


@dataclass(frozen=True, eq=False)
class FinerLevel:
    """The next finer level of the pyramid.

    Attributes:
        open: returns its blocks; called only where they are needed, with the file's descriptor.
        scale_x, scale_y: its pixels per pixel of the level that it replaces.
    """

    open: Callable[[int], "FallbackBlocks"]
    scale_x: float
    scale_y: float


class FallbackBlocks:
    """The blocks of a level, with the finer levels behind it. Several threads may call `read`.

    Attributes:
        layout: where the blocks lie in the level.
        block_bytes: size of one decoded block in bytes.
        bits: of a sample in the file, 8 or 16.
    """

    def __init__(self, blocks: Blocks, finer: FinerLevel | None) -> None:
        """Read `blocks`, and what they lack from `finer`, which is None for level 0."""
        self._blocks = blocks
        self._finer = finer
        self.layout: BlockLayout = blocks.layout
        self.block_bytes = blocks.block_bytes
        self.bits = blocks.bits

    def read(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read and decode one block, or make it from the finer level.

        Args:
            fd: descriptor of the file.
            column, row: the block's place in `layout`.

        Returns:
            uint8 (height, width, 3) RGB; glass where no level stores anything.

        Raises:
            RefusedError: the block cannot be decoded, and the finer level cannot replace it. The
                error continues "block COLUMN,ROW ...".
            OSError: the storage failed.
        """
        if not self._blocks.is_stored(column, row):
            return self._filled(fd, column, row)
        try:
            return self._blocks.read(fd, column, row)
        except (RefusedError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EIO:
                raise
            made = self._made_again(fd, column, row)
            if made is None:
                raise
            return made

    def read_halved(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one block at half its width and height, or whole where that is not possible.

        Args, errors: as `read`.
        """
        try:
            pixels = self._blocks.read_half(fd, column, row)
        except (RefusedError, OSError):
            pixels = None  # `read` raises it again, or makes the block from the finer level
        return self.read(fd, column, row) if pixels is None else pixels

    def _filled(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return a block that is not stored: glass, unless the finer level has pixels there."""
        if self._finer is None:
            return self._blocks.read(fd, column, row)
        try:
            finer = self._finer.open(fd)
        except (RefusedError, SlideError):
            return self._blocks.read(fd, column, row)
        across, down = self._spans(finer, self._finer, column, row)
        if not finer.has_pixels(fd, across.finer, down.finer):
            return self._blocks.read(fd, column, row)
        try:
            return finer.averaged(fd, across, down)
        except RefusedError as error:
            raise RefusedError(
                f"is not stored, and the finer level cannot replace it: {error}"
            ) from error

    def _made_again(self, fd: int, column: int, row: int) -> NDArray[np.uint8] | None:
        """Return a damaged block made from the finer level, None where that is not possible.

        Raises OSError, because a later attempt may be able to read the finer level.
        """
        if self._finer is None:
            return None
        try:
            finer = self._finer.open(fd)
            across, down = self._spans(finer, self._finer, column, row)
            # Where the finer level stores nothing, the level itself had pixels: not glass.
            if not finer.has_pixels(fd, across.finer, down.finer):
                return None
            return finer.averaged(fd, across, down)
        except (RefusedError, SlideError):
            return None

    def _spans(
        self, finer: "FallbackBlocks", scale: FinerLevel, column: int, row: int
    ) -> tuple[_Span, _Span]:
        width, height = self.layout.extent(column, row)
        left, top = column * self.layout.block_width, row * self.layout.block_height
        return (
            _Span(left, left + width, scale.scale_x, finer.layout.width),
            _Span(top, top + height, scale.scale_y, finer.layout.height),
        )

    def has_pixels(self, fd: int, across: tuple[int, int], down: tuple[int, int]) -> bool:
        """Return whether this level or a finer one stores a block in a rectangle of this level.

        Args:
            fd: descriptor of the file.
            across, down: pixels [first, last) of this level along both axes.
        """
        layout = self.layout
        columns = _Span(*across, 1.0, layout.width).blocks(layout.block_width)
        rows = _Span(*down, 1.0, layout.height).blocks(layout.block_height)
        if self._blocks.any_stored(columns, rows):
            return True
        if self._finer is None:
            return False
        try:
            finer = self._finer.open(fd)
        except (RefusedError, SlideError):
            return False
        return finer.has_pixels(
            fd,
            _Span(*across, self._finer.scale_x, finer.layout.width).finer,
            _Span(*down, self._finer.scale_y, finer.layout.height).finer,
        )

    def averaged(self, fd: int, across: _Span, down: _Span) -> NDArray[np.uint8]:
        """Return a rectangle of the next coarser level as the means of this level's pixels.

        One block after the other is decoded, so that little more memory is needed than for the
        rectangle.

        Args:
            fd: descriptor of the file.
            across, down: the rectangle.

        Returns:
            uint8 (height, width, 3) RGB, white where this level has no pixels.

        Raises:
            RefusedError: a block cannot be read.
            OSError: the storage failed.
        """
        width = across.stop - across.start
        bands = []
        rows_at_once = max(1, _BAND_BYTES // (width * 12))
        for start in range(down.start, down.stop, rows_at_once):
            band = replace(down, start=start, stop=min(start + rows_at_once, down.stop))
            bands.append(self._averaged_band(fd, across, band))
        return np.concatenate(bands) if len(bands) > 1 else bands[0]

    def _averaged_band(self, fd: int, across: _Span, down: _Span) -> NDArray[np.uint8]:
        width, rows = across.stop - across.start, down.stop - down.start
        total = np.zeros((rows, width, 3), np.float32)
        share_x, share_y = np.zeros(width, np.float32), np.zeros(rows, np.float32)
        for row in down.blocks(self.layout.block_height):
            top, height = row * self.layout.block_height, self.layout.extent(0, row)[1]
            y, vertical = _part(down, top, height)
            to_y, from_y = _place(down, vertical)
            share_x[:] = 0
            for column in across.blocks(self.layout.block_width):
                try:
                    block = self.read(fd, column, row)
                except RefusedError as error:
                    raise RefusedError(f"block {column},{row} {error}") from error
                x, horizontal = _part(across, column * self.layout.block_width, block.shape[1])
                to_x, from_x = _place(across, horizontal)
                part = area_parts(block[y, x], vertical, horizontal)
                total[to_y, to_x] += part[from_y, from_x]
                share_x[to_x] += horizontal.share[from_x]
            share_y[to_y] += vertical.share[from_y]
        # The last pixels may reach beyond the finer level: they are means of what is there.
        share = share_y[:, None, None] * share_x[None, :, None]
        np.divide(total, share, out=total, where=share > 0)
        total[np.broadcast_to(share <= 0, total.shape)] = 255
        rounded: NDArray[np.uint8] = np.minimum(total + np.float32(0.5), 255).astype(np.uint8)
        return rounded


def _part(span: _Span, start: int, size: int) -> tuple[slice, AxisWeights]:
    """Return what a block of the finer level gives to a span: its pixels, and their weights.

    Args:
        span: pixels of the coarser level.
        start, size: the block's pixels along the axis.
    """
    first, last = span.finer
    first, last = max(first, start), min(last, start + size)
    weights = axis_weights(first, last, span.scale, span.stop)
    return slice(first - start, last - start), weights


def _place(span: _Span, weights: AxisWeights) -> tuple[slice, slice]:
    """Return where weighted pixels go in a span, and which of them, as slices of both."""
    before = max(0, span.start - weights.first)
    first = weights.first + before - span.start
    return slice(first, first + len(weights.share) - before), slice(before, None)
