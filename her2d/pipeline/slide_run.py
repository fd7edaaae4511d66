"""The tiles of one slide while they pass through the stages.

Memory is a few dozen bytes a tile, plus an overview of bounded size, plus the features of as many
tumour tiles as a bundle allows if it weighs those.
"""

import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from structlog.contextvars import get_contextvars

from her2d.errors import Her2dError
from her2d.method import FOLDS
from her2d.pipeline.outcome import Overview, TileClass
from her2d.pipeline.quality import QualityTally, shrunk
from her2d.slides.grid import TileGrid, UnreadableTile

_PENDING = 255
_OVERVIEW_PIXELS = 1 << 21
_LARGEST_TILE_PX = 256
_LOOK_UP_S = 0.2

Progress = Callable[[int, int], None]


class Flag(Protocol):
    """What gives a slide up once it is set, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether it is set."""
        ...


class SlideCancelledError(Her2dError):
    """The slide was cancelled before it was finished."""


class SlideRun:
    """The results of a slide's tiles so far. Stages add to it from their own threads.

    Attributes:
        bound: the log context where the slide's work began.
        small_px: pixels along a tile's side in the overview.
        p_folds: float32 (rows, columns, 5), NaN where a sub-classifier was not run.
        decided_early: bool, whether a tile's class was certain before all sub-classifiers ran.
        p_strong, least_p_strong: of these tiles, as in `Decisions`.
        features: what an encoder made of tumour tiles, float16 (sets, channels) by row and column.
        artefact_tumor_pixels: tumour pixels that do not count because they are in artefacts.
    """

    def __init__(
        self, grid: TileGrid, cancelled: Callable[[], bool], progress: Progress | None = None
    ) -> None:
        self.grid = grid
        self.bound = dict(get_contextvars())
        self.cancelled = cancelled
        shape = (grid.rows, grid.columns)
        self.tile_class = np.full(shape, _PENDING, np.uint8)
        self.tumor_pixels = np.zeros(shape, np.int32)
        self.artefact_tumor_pixels = 0
        self.p_folds = np.full((*shape, FOLDS), np.nan, np.float32)
        self.decided_early = np.zeros(shape, np.bool_)
        self.p_strong = np.full(shape, np.nan, np.float32)
        self.least_p_strong = np.full(shape, np.nan, np.float32)
        self.features: dict[tuple[int, int], NDArray[np.float16]] = {}
        self.unreadable_reason: str | None = None
        self.has_io_error = np.zeros(shape, np.bool_)
        self.quality = QualityTally()
        self._progress = progress
        self.small_px = overview_tile_px(grid)
        self._rgb = np.full(
            (grid.rows * self.small_px, grid.columns * self.small_px, 3), 255, np.uint8
        )
        self._tumor = np.zeros(self._rgb.shape[:2], np.uint8)
        self._settled = 0
        self._reporting = 0  # calls of `progress` under way
        self._is_over = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    @property
    def ended(self) -> bool:
        """Whether the slide was cancelled or has failed."""
        return self._error is not None or self.cancelled()

    @property
    def artefact_tumor_percent(self) -> float | None:
        """Share of the tumour that does not count because it is in artefacts; None without any."""
        found = int(self.tumor_pixels.sum()) + self.artefact_tumor_pixels
        return 100 * self.artefact_tumor_pixels / found if found else None

    @property
    def has_io_errors(self) -> bool:
        """Whether the storage returned I/O errors for some tiles."""
        return bool(self.has_io_error.any())

    @property
    def overview(self) -> Overview:
        return Overview(self._rgb, self._tumor, self.small_px)

    def seen(self, row: int, column: int, small: NDArray[np.uint8]) -> None:
        """Put a readable tile's small picture, uint8 (small_px, small_px, 3), into the overview."""
        self._rgb[self._window(row, column)] = small

    def unreadable(self, tile: UnreadableTile) -> None:
        """Settle a tile that could not be read; keep the first reason, or the first I/O error."""
        if self.unreadable_reason is None or (tile.is_io_error and not self.has_io_errors):
            self.unreadable_reason = tile.reason
        self.has_io_error[tile.row, tile.column] = tile.is_io_error
        self._settle(tile.row, tile.column, TileClass.UNREADABLE)

    def background(self, row: int, column: int) -> None:
        self._settle(row, column, TileClass.BACKGROUND)

    def non_tumor(self, row: int, column: int, tumor_pixels: int) -> None:
        self.tumor_pixels[row, column] = tumor_pixels
        self._settle(row, column, TileClass.NON_TUMOR)

    def tumor(self, row: int, column: int, tumor_pixels: int, mask: NDArray[np.uint8]) -> None:
        """Keep a tumour tile's mask; the tile still awaits its classification."""
        self.tumor_pixels[row, column] = tumor_pixels
        self._tumor[self._window(row, column)] = shrunk(mask * np.uint8(255), self.small_px)

    def classified(self, row: int, column: int, p_folds: NDArray[np.float32]) -> None:
        """Settle a tumour tile; weak until the integrator, at the slide's end, says strong."""
        self.p_folds[row, column] = p_folds
        self._settle(row, column, TileClass.WEAK)

    def decided(
        self,
        row: int,
        column: int,
        p_folds: NDArray[np.float32],
        *,
        strong: bool,
        p_strong: float,
        least_p_strong: float,
    ) -> None:
        """Settle a tumour tile whose class is certain; NaN is what was not computed."""
        self.p_folds[row, column] = p_folds
        self.p_strong[row, column] = p_strong
        self.least_p_strong[row, column] = least_p_strong
        self.decided_early[row, column] = True
        self._settle(row, column, TileClass.STRONG if strong else TileClass.WEAK)

    def encoded(self, row: int, column: int, features: NDArray[np.float16]) -> None:
        """Keep a tumour tile's features, which are weighed at the slide's end, and settle it."""
        self.features[row, column] = features
        self._settle(row, column, TileClass.TUMOR)

    def not_encoded(self, row: int, column: int) -> None:
        """Settle a tumour tile whose features are not kept, because the slide has too many."""
        self._settle(row, column, TileClass.TUMOR)

    def fail(self, error: Exception) -> None:
        """End this slide, and only it, with `error`."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def wait(self) -> None:
        """Return once every tile is settled; no progress is reported afterwards.

        Raises:
            SlideCancelledError: the slide was cancelled meanwhile.
            Exception: what a stage failed with.
        """
        with self._changed:
            while self._settled < self.tile_class.size and not self.ended:
                self._changed.wait(_LOOK_UP_S)
            self._is_over = True
            while self._reporting:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if self._settled < self.tile_class.size:
                raise SlideCancelledError("The slide was cancelled.")

    def _settle(self, row: int, column: int, tile_class: TileClass) -> None:
        with self._changed:
            if self.tile_class[row, column] != _PENDING:
                raise RuntimeError(f"tile ({column}, {row}) was settled twice")
            self.tile_class[row, column] = tile_class
            self._settled += 1
            settled = self._settled
            if settled == self.tile_class.size:
                self._changed.notify_all()
            if self._progress is None or self._is_over:
                return
            self._reporting += 1
        try:
            self._progress(settled, self.tile_class.size)
        finally:
            with self._changed:
                self._reporting -= 1
                self._changed.notify_all()

    def _window(self, row: int, column: int) -> tuple[slice, slice]:
        side = self.small_px
        return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


def overview_tile_px(grid: TileGrid) -> int:
    """The overview's pixels along a tile's side: a power of two that keeps it to two megapixels."""
    side = _LARGEST_TILE_PX
    while side > 1 and grid.rows * grid.columns * side * side > _OVERVIEW_PIXELS:
        side //= 2
    return side
