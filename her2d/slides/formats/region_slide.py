"""A scan whose library reads rectangles, with the grid, averages and errors of a TIFF."""

import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np

from her2d.slides.bright_field import checked_tiles
from her2d.slides.errors import RefusedError, SlideError, SlideUnavailableError, slide_errors
from her2d.slides.fit import fit_grid
from her2d.slides.formats.region_blocks import NO_FD, RegionBlocks
from her2d.slides.formats.source import Source, SourceLevel, Statements
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.metadata import BarcodeSource, SlideMetadata, describe
from her2d.slides.openslide_names import AssociatedImages, Pair, Pixels, standard_properties
from her2d.slides.pyramid import choose_level
from her2d.slides.resample import area_parts, axis_weights
from her2d.slides.scale import scale_of
from her2d.slides.stream import WHITE, TileStream

_MPP = ("openslide.mpp-x", "openslide.mpp-y")
_MAX_REGION_PIXELS = 2**28  # 768 MiB of RGB


class RegionSlide:
    """An open scan that another library reads; see `her2d.slides.protocol.Slide`."""

    def __init__(
        self, path: Path, source: Source, assume_magnification: float | None, um_per_px: float
    ) -> None:
        """Take over an open source; the other arguments are those of `open_slide`.

        Raises:
            RefusedError: the scan has no magnification, or is too coarse.
        """
        self.path = path
        self._source = source
        self._users = _Users(source.close)
        levels = source.levels
        self.metadata = described(source.statements, levels[0], assume_magnification)
        scale = scale_of(self.metadata, um_per_px)
        level, as_is = choose_level(levels, scale)
        self.grid, self._sampling = fit_grid(
            scale,
            width=level.width,
            height=level.height,
            downsample_x=level.downsample_x,
            downsample_y=level.downsample_y,
            as_is=as_is,
        )
        self._serving = RegionBlocks(source, levels.index(level))
        self.properties: Mapping[str, str] = MappingProxyType(
            _properties(self.metadata, levels, source)
        )
        self.associated_images: Mapping[str, Pixels] = AssociatedImages(
            path.name, source.associated, self._associated
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the scan's files, once no `tiles` iterator reads them."""
        self._users.close()

    @property
    def dimensions(self) -> Pair:
        """Width and height of level 0 in pixels."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Number of levels, at least 1."""
        return len(self._source.levels)

    @property
    def level_dimensions(self) -> tuple[Pair, ...]:
        """Width and height of each level in pixels, finest level first."""
        return tuple((level.width, level.height) for level in self._source.levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level: the geometric mean of both axes."""
        return tuple(level.downsample for level in self._source.levels)

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest level whose downsample is at most `downsample`, 0 where none is."""
        fine = [n for n, level in enumerate(self.level_downsamples) if level <= downsample]
        return max(fine, default=0)

    def read_region(self, location: Pair, level: int, size: Pair) -> Pixels:
        """Read a rectangle of a level; arguments, result and errors are those of TIFF slides."""
        if not 0 <= level < self.level_count:
            last = self.level_count - 1
            raise ValueError(f"{self.path.name} has no level {level}; its last level is {last}")
        width, height = size
        if min(size) < 0:
            raise ValueError(f"a region of {width} x {height} pixels has a negative size")
        found = self._source.levels[level]
        left = math.floor(location[0] / found.downsample_x + 0.5)
        top = math.floor(location[1] / found.downsample_y + 0.5)
        pixels = np.full((height, width, 3), WHITE, np.uint8)
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + width, found.width), min(top + height, found.height)
        with self._users.one_more(self.path.name):
            if x < right and y < bottom:
                part = self._read(level, x, y, right - x, bottom - y)
                pixels[y - top : bottom - top, x - left : right - left] = part
        return pixels

    def get_thumbnail(self, size: Pair) -> Pixels:
        """Return the whole scan in small; arguments, result and errors are those of TIFF slides."""
        if min(size) < 1:
            raise ValueError(f"a thumbnail of {size[0]} x {size[1]} pixels has no pixels")
        full = self.dimensions
        downsample = max(1.0, full[0] / size[0], full[1] / size[1])
        number = self.get_best_level_for_downsample(downsample)
        level = self._source.levels[number]
        width = max(1, min(round(full[0] / downsample), level.width))
        height = max(1, min(round(full[1] / downsample), level.height))
        scale_x, scale_y = level.width / width, level.height / height
        total = np.full((height, width, 3), 0.5, np.float32)  # halves are rounded up
        blocks = RegionBlocks(self._source, number)
        with self._users.one_more(self.path.name):
            for row in range(blocks.layout.rows):
                for column in range(blocks.layout.columns):
                    left, top = column * level.block, row * level.block
                    block = self._read(number, left, top, *blocks.layout.extent(column, row))
                    down = axis_weights(top, top + block.shape[0], scale_y, height)
                    across = axis_weights(left, left + block.shape[1], scale_x, width)
                    part = area_parts(block, down, across)
                    y, x = down.first, across.first
                    total[y : y + part.shape[0], x : x + part.shape[1]] += part
        return np.minimum(total, 255).astype(np.uint8)

    def tiles(self, *, workers: int = 2) -> Generator[Tile | UnreadableTile]:
        """Iterate over the tiles of `grid` at 4x, row by row, each exactly once.

        Raises:
            ValueError: the slide is closed.
            SlideUnavailableError: the storage failed, while iterating.
        """
        self._users.check(self.path.name)
        return self._stream(workers)

    def glimpse(self, column: int, row: int) -> Pixels | None:
        """Return None: these libraries do not tell glass from what a coarser level lacks.

        A tile that cannot be read thus stays unreadable, which never makes a call.
        """
        return None

    def _stream(self, workers: int) -> Generator[Tile | UnreadableTile]:
        with self._users.one_more(self.path.name):
            stream = TileStream(NO_FD, self._serving, self._sampling, self.grid, workers)
            try:
                with closing(iter(stream)) as tiles:  # also if the receiver stops early
                    # These libraries give 8 bits a sample.
                    yield from checked_tiles(tiles, self.path, self.grid, deep=False)
            except OSError as error:
                reason = f"cannot be read: {error.strerror}"
                raise SlideUnavailableError(self.path.name, reason) from error

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if width * height > _MAX_REGION_PIXELS:
            raise SlideError(
                self.path.name,
                f"cannot be read: a region of {width} x {height} pixels is over the limit of "
                f"{_MAX_REGION_PIXELS >> 20} megapixels",
            )
        try:
            return self._source.read(level, x, y, width, height)
        except RefusedError as error:
            reason = f"cannot be read: the region from {x},{y} on of level {level} {error}"
            raise SlideError(self.path.name, reason) from error
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise SlideUnavailableError(self.path.name, reason) from error

    def _associated(self, name: str) -> Pixels:
        with self._users.one_more(self.path.name), slide_errors(self.path):
            return self._source.read_associated(name)


class _Users:
    """Closes a source after `close`, when nothing reads it any more."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close_source = close
        self._count = 1  # the slide itself
        self._closed = False
        self._lock = threading.Lock()

    def check(self, name: str) -> None:
        """Raise ValueError if the slide is closed."""
        if self._closed:
            raise ValueError(f"{name} is closed")

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """Keep the source open in the block. Raises ValueError if the slide is closed."""
        with self._lock:
            self.check(name)
            self._count += 1
        try:
            yield
        finally:
            self._remove()

    def close(self) -> None:
        """Close the source as soon as nothing reads it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._remove()

    def _remove(self) -> None:
        with self._lock:
            self._count -= 1
            last = self._count == 0
        if last:
            self._close_source()


def described(
    stated: Statements, base: SourceLevel, assume_magnification: float | None
) -> SlideMetadata:
    """Return the scan's metadata, by the rules for TIFF.

    Raises:
        RefusedError: there is no magnification, or the statements contradict each other.
    """
    fields = {"AppMag": stated.magnification, "MPP": stated.mpp}
    text = "|".join(f"{key} = {value:.12g}" for key, value in fields.items() if value is not None)
    found = describe(
        [text],
        None,
        width=base.width,
        height=base.height,
        assume_magnification=assume_magnification,
    )
    source = None if stated.barcode is None else BarcodeSource.DESCRIPTION
    return replace(found, vendor=stated.vendor, barcode=stated.barcode, barcode_source=source)


def _properties(
    metadata: SlideMetadata, levels: Sequence[SourceLevel], source: Source
) -> dict[str, str]:
    stated = source.statements.properties
    found = {**stated, **standard_properties(metadata, levels, source.associated)}
    # The library may state the two axes separately.
    return found | {key: stated[key] for key in _MPP if key in stated}
