"""Assemble tiles from blocks, row by row and in bounded memory.

Worker threads decode each block once, in the order in which tiles first need it. The part of a
block that belongs to later tiles waits on their canvases. At most one row of tiles has canvases if
blocks straddle tile rows, and none if blocks and tiles coincide. A tile is passed on as soon as it
is complete.
"""

import errno
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX
from her2d.slides.block_times import block_time
from her2d.slides.blocks import BlockReader
from her2d.slides.errors import RefusedError
from her2d.slides.grid import Tile, TileGrid, UnreadableTile
from her2d.slides.means import Means, means_at
from her2d.slides.resample import area_parts, covered

WHITE = 255

_AHEAD_PER_WORKER = 2
# A thread works on some blocks before it returns what it made of them: as many as both allow.
_RUN_BYTES = 4 * 2**20  # of decoded blocks
_RETURNED_BYTES = 2**20
_AHEAD_BYTES = (
    128 * 2**20
)  # decoded ahead of the receiver; one block that is larger is decoded nevertheless

Position = tuple[int, int]  # column, row


@dataclass(frozen=True)
class Sampling:
    """The scale from a level to the grid.

    Attributes:
        scale_x, scale_y: level pixels per grid pixel, 1 if `as_is`.
        as_is: the level's pixels are used without averaging.
    """

    scale_x: float
    scale_y: float
    as_is: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """What one block contributes to the grid.

    Attributes:
        x, y: the grid pixels [first, last) that it covers.
        pixels: of these, or None where the block could not be read.
        reason: why it could not be read.
        is_io_error: whether the storage returned an I/O error.
    """

    x: tuple[int, int]
    y: tuple[int, int]
    pixels: NDArray[Any] | None  # uint8 where used as is, sums where averaged
    reason: str | None = None
    is_io_error: bool = False


@dataclass(slots=True)
class _Canvas:
    """A tile that is being assembled; `reason` says why it cannot be read."""

    pixels: NDArray[Any] | None = None  # as in _Part
    reason: str | None = None
    is_io_error: bool = False


@dataclass(frozen=True, eq=False)
class _Axis:
    """Which grid pixels, and therefore tiles, each block touches along one axis.

    Attributes:
        pixels: (first, last) grid pixel of each block, last exclusive.
        starting_in: for each tile, the blocks whose first tile it is.
    """

    pixels: list[tuple[int, int]]
    starting_in: list[range]

    @classmethod
    def of(cls, source: int, block: int, scale: float, grid: int) -> "_Axis":
        pixels = [
            covered(start, min(start + block, source), scale, grid)
            for start in range(0, source, block)
        ]
        # Blocks beyond the last grid pixel belong to no tile.
        pixels = [span for span in pixels if span[0] < span[1]]
        tiles = range(-(-grid // TILE_PX) + 1)
        first = np.searchsorted([span[0] // TILE_PX for span in pixels], tiles).tolist()
        return cls(pixels, [range(*ends) for ends in pairwise(first)])


@dataclass(eq=False)
class TileStream:
    """One pass over the tiles of a grid: iterate to get them.

    Attributes:
        fd: descriptor of the file.
        blocks: of the level that the tiles are made from.
        sampling: from that level to the grid.
        grid: where the tiles lie.
        workers: number of threads that decode.
    """

    fd: int
    blocks: BlockReader
    sampling: Sampling
    grid: TileGrid
    workers: int
    _across: _Axis = field(init=False)
    _down: _Axis = field(init=False)
    _canvases: dict[Position, _Canvas] = field(init=False, default_factory=dict)
    # Sums of finished tiles, for the next ones: new memory would cost more than the sums.
    _unused: list[NDArray[Any]] = field(init=False, default_factory=list)
    _means: Means = field(init=False)

    def __post_init__(self) -> None:
        layout, sampling = self.blocks.layout, self.sampling
        self._means = means_at(sampling.scale_x, sampling.scale_y)
        self._across = _Axis.of(layout.width, layout.block_width, sampling.scale_x, self.grid.width)
        self._down = _Axis.of(
            layout.height, layout.block_height, sampling.scale_y, self.grid.height
        )

    def __iter__(self) -> Generator[Tile | UnreadableTile]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="her2d-decode")
        try:
            parts = self._parts(pool)
            for row in range(self.grid.rows):
                for column in range(self.grid.columns):
                    new = len(self._across.starting_in[column]) * len(self._down.starting_in[row])
                    for _ in range(new):
                        self._place(next(parts))
                    yield self._finish(column, row)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self) -> Iterator[Position]:
        """Yield blocks in the order in which tiles, row by row, first need them."""
        for row in range(self.grid.rows):
            for column in range(self.grid.columns):
                for y in self._down.starting_in[row]:
                    for x in self._across.starting_in[column]:
                        yield x, y

    def _parts(self, pool: ThreadPoolExecutor) -> Iterator[_Part]:
        run = max(1, min(_RUN_BYTES // self.blocks.block_bytes, self._blocks_returned()))
        ahead = _AHEAD_BYTES // (run * self.blocks.block_bytes)
        ahead = max(1, min(ahead, _AHEAD_PER_WORKER * self.workers))
        under_way: deque[Future[list[_Part]]] = deque()
        for positions in _batched(self._order(), run):
            if len(under_way) >= ahead:
                yield from under_way.popleft().result()
            under_way.append(pool.submit(copy_context().run, self._work, positions))
        while under_way:
            yield from under_way.popleft().result()

    def _blocks_returned(self) -> int:
        """Return from how many blocks _RETURNED_BYTES are made."""
        layout, sampling = self.blocks.layout, self.sampling
        sample_bytes = 1 if sampling.as_is else np.dtype(self._means.dtype).itemsize
        pixels = layout.block_width * layout.block_height / (sampling.scale_x * sampling.scale_y)
        return int(_RETURNED_BYTES // (3 * pixels * sample_bytes))

    def _work(self, positions: Sequence[Position]) -> list[_Part]:
        """Read some blocks; runs on a worker."""
        with block_time.running():
            return [self._part(position) for position in positions]

    def _part(self, position: Position) -> _Part:
        """Read and decode one block and average it to the scale of the grid."""
        column, row = position
        span_x, span_y = self._across.pixels[column], self._down.pixels[row]
        try:
            pixels = self.blocks.read(self.fd, column, row)
        except RefusedError as error:
            return _Part(span_x, span_y, None, f"block {column},{row} {error}")
        except OSError as error:
            if (
                error.errno != errno.EIO
            ):  # an I/O error concerns the block, other errors the storage
                raise
            reason = f"block {column},{row} cannot be read: I/O error"
            return _Part(span_x, span_y, None, reason, is_io_error=True)
        if self.sampling.as_is:
            return _Part(span_x, span_y, pixels)
        return _Part(span_x, span_y, self._averaged(pixels, column, row))

    def _averaged(self, pixels: NDArray[np.uint8], column: int, row: int) -> NDArray[Any]:
        layout, sampling = self.blocks.layout, self.sampling
        width, height = layout.extent(column, row)
        by = height // pixels.shape[0]  # 2 where the block was decoded at half size
        left, top = column * layout.block_width, row * layout.block_height
        down = (top // by, (top + height) // by, sampling.scale_y / by, self.grid.height)
        across = (left // by, (left + width) // by, sampling.scale_x / by, self.grid.width)
        return area_parts(pixels, self._means.weights(*down), self._means.weights(*across))

    def _place(self, part: _Part) -> None:
        """Add `part` to the canvas of each tile that it touches."""
        for row in _tiles(part.y):
            for column in _tiles(part.x):
                canvas = self._canvases.setdefault((column, row), _Canvas())
                if part.pixels is None:
                    if canvas.reason is None or part.is_io_error:
                        canvas.pixels, canvas.reason = None, part.reason
                        canvas.is_io_error = part.is_io_error
                    continue
                if canvas.reason is not None:
                    continue
                here_x, there_x = _overlap(part.x, column)
                here_y, there_y = _overlap(part.y, row)
                share = part.pixels[here_y, here_x]
                if self.sampling.as_is:
                    _paste(canvas, share, there_y, there_x)
                else:
                    self._add(canvas, share, there_y, there_x)

    def _finish(self, column: int, row: int) -> Tile | UnreadableTile:
        canvas = self._canvases.pop((column, row))
        if canvas.pixels is None:
            reason = canvas.reason or "holds no pixels"
            return UnreadableTile(column, row, reason, canvas.is_io_error)
        if self.sampling.as_is:
            return Tile(column, row, canvas.pixels)
        sums, canvas.pixels = canvas.pixels, None
        pixels = self._means.rounded(sums)
        width, height = self.grid.extent(column, row)
        pixels[height:] = WHITE
        pixels[:, width:] = WHITE
        self._unused.append(sums)
        return Tile(column, row, pixels)

    def _add(self, canvas: _Canvas, share: NDArray[Any], y: slice, x: slice) -> None:
        if canvas.pixels is None:
            if self._unused:
                canvas.pixels = self._unused.pop()
                canvas.pixels.fill(0)
            else:
                canvas.pixels = np.zeros((TILE_PX, TILE_PX, 3), self._means.dtype)
        canvas.pixels[y, x] += share


def _batched(positions: Iterator[Position], length: int) -> Iterator[Sequence[Position]]:
    while some := tuple(islice(positions, length)):
        yield some


def _tiles(span: tuple[int, int]) -> range:
    return range(span[0] // TILE_PX, (span[1] - 1) // TILE_PX + 1)


def _overlap(span: tuple[int, int], tile: int) -> tuple[slice, slice]:
    """Return what a span of grid pixels and a tile have in common, as slices of both."""
    low = max(span[0], tile * TILE_PX)
    high = min(span[1], (tile + 1) * TILE_PX)
    return (
        slice(low - span[0], high - span[0]),
        slice(low - tile * TILE_PX, high - tile * TILE_PX),
    )


def _paste(canvas: _Canvas, share: NDArray[np.uint8], y: slice, x: slice) -> None:
    if share.shape[:2] == (TILE_PX, TILE_PX):
        canvas.pixels = np.require(share, requirements=("C", "W"))  # the block is the whole tile
        return
    if canvas.pixels is None:
        canvas.pixels = np.full((TILE_PX, TILE_PX, 3), WHITE, np.uint8)
    canvas.pixels[y, x] = share
