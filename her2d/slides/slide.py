"""One open scan: its levels under the names of OpenSlide's Python API, and its tiles at 4x.

https://openslide.org/api/python/ describes the names. Three things differ: pixels are NumPy arrays
rather than PIL images, there is no transparency (what no scan covers is white, and what the file
does not store is glass), and the associated images of `associated_images` are decoded at each
access.
"""

import errno
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np

from her2d.slides.blocks import Blocks, copy_rectangle
from her2d.slides.bright_field import checked_tiles
from her2d.slides.errors import RefusedError, SlideError, SlideUnavailableError, slide_errors
from her2d.slides.fallback import FallbackBlocks, FinerLevel, finer_level
from her2d.slides.glass import Color
from her2d.slides.grid import Tile, TileGrid, UnreadableTile
from her2d.slides.half_size import HALF_SIZE, HalvedBlocks
from her2d.slides.images import Image, image_of, tifffile_on
from her2d.slides.metadata import SlideMetadata
from her2d.slides.openslide_names import AssociatedImages, Pair, Pixels, standard_properties
from her2d.slides.pyramid import Level
from her2d.slides.resample import area_parts, axis_weights
from her2d.slides.stream import WHITE, Sampling, TileStream
from her2d.slides.structure import Directory

CACHE_BYTES = 32 * 2**20  # of decoded blocks, as in OpenSlide


@dataclass(frozen=True, eq=False)
class _Stored:
    """An image of the file, without its tags: they are read again when it is first needed."""

    index: int
    directory: Directory


@dataclass(frozen=True, eq=False)
class _Level:
    """A level of the pyramid; downsamples are level-0 pixels per pixel of the level."""

    stored: _Stored
    downsample: float
    downsample_x: float
    downsample_y: float
    size: Pair


class TiffSlide:
    """An open TIFF; a context manager that closes its file. `open_slide` returns it.

    `read_region`, `get_thumbnail`, `associated_images` and `tiles` may be used by several threads.

    Attributes:
        path: where it was opened.
        metadata: what the file states about the scan.
        grid: the scan's tiles at 4x.
        properties: OpenSlide's properties, as far as the file states them: openslide.vendor,
            openslide.comment, openslide.icc-size (of an ICC profile, which is not applied),
            openslide.objective-power, openslide.mpp-x and -y, openslide.level-count,
            openslide.level[N].width, .height, .downsample, .tile-width and .tile-height,
            openslide.associated.NAME.width and .height; and the fields of the
            vendor's description, such as aperio.AppMag or motic.Barcode. The objective power is
            `metadata.magnification`, which may be computed from MPP or assumed.
        associated_images: pictures beside the pyramid ("label", "macro", "thumbnail") as uint8
            (height, width, 3) RGB, as far as the file has them. Each access decodes one, and
            raises SlideError where that is not possible.
    """

    def __init__(
        self,
        path: Path,
        *,
        fd: int,
        metadata: SlideMetadata,
        grid: TileGrid,
        blocks: Blocks,
        sampling: Sampling,
        levels: Sequence[Level],
        serving: Level,
        glass: Color,
        associated: Mapping[str, Image],
        icc_bytes: int,
        comment: str,
        fields: Mapping[str, str],
    ) -> None:
        """Take over an open file; `open_slide` calls this.

        Args:
            path: where it was opened.
            fd: its descriptor, which `close` closes.
            metadata: what the file states about the scan.
            grid: the scan's tiles at 4x.
            blocks: of `serving`, the level that tiles are made from.
            sampling: from that level's pixels to the grid's.
            levels: the pyramid, finest first.
            serving: one of `levels`.
            glass: colour of the blocks that the file does not store.
            associated: the images beside the pyramid, by name.
            icc_bytes: size of level 0's ICC profile, 0 where it has none.
            comment: level 0's ImageDescription (tag 270).
            fields: `key = value` fields of the vendor's description.
        """
        self.path = path
        self.metadata = metadata
        self.grid = grid
        self._sampling = sampling
        self._fd: int | None = fd
        self._glass = glass
        self._levels = [
            _Level(
                _stored(level.image),
                level.downsample,
                level.downsample_x,
                level.downsample_y,
                (level.width, level.height),
            )
            for level in levels
        ]
        stored = {name: _stored(image) for name, image in associated.items()}
        sizes = {name: (one.directory.width, one.directory.height) for name, one in stored.items()}
        self._decoders = {serving.image.directory.offset: blocks}
        self._choosing_decoder = threading.Lock()
        self._serving = list(levels).index(serving)
        self._blocks = self._level_blocks(fd, self._serving)
        self._cache = _BlockCache(CACHE_BYTES)
        self.properties: Mapping[str, str] = MappingProxyType(
            standard_properties(metadata, self._levels, sizes)
            | _tiff_properties(metadata, self._levels, icc_bytes, comment, fields)
        )
        self.associated_images: Mapping[str, Pixels] = AssociatedImages(
            path.name, sizes, lambda name: self._associated(name, stored[name])
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
        """Close the file. A `tiles` iterator that has begun keeps a descriptor of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def dimensions(self) -> Pair:
        """Width and height of level 0 in pixels."""
        return self._levels[0].size

    @property
    def level_count(self) -> int:
        """Number of levels, at least 1."""
        return len(self._levels)

    @property
    def level_dimensions(self) -> tuple[Pair, ...]:
        """Width and height of each level in pixels, finest level first."""
        return tuple(level.size for level in self._levels)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level: the geometric mean of both axes."""
        return tuple(level.downsample for level in self._levels)

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest level whose downsample is at most `downsample`, 0 where none is."""
        fine = [n for n, level in enumerate(self._levels) if level.downsample <= downsample]
        return max(fine, default=0)

    def read_region(self, location: Pair, level: int, size: Pair) -> Pixels:
        """Read a rectangle of a level.

        Args:
            location: x and y of the upper left corner in level-0 pixels; brought to the nearest
                pixel of the level. May be negative.
            level: number of the level; 0 is the finest.
            size: width and height in pixels of the level.

        Returns:
            uint8 (height, width, 3) RGB, white outside the scan. OpenSlide returns an RGBA image
            of PIL instead, transparent outside the scan.

        Raises:
            ValueError: there is no such level, the size is negative, or the slide is closed.
            SlideError: a block of the region cannot be read, and no finer level can replace it; the
                sentence names the block by its column and row.
            SlideUnavailableError: the storage failed.
        """
        found = self._level(level)
        width, height = size
        if min(size) < 0:
            raise ValueError(f"a region of {width} x {height} pixels has a negative size")
        left = math.floor(location[0] / found.downsample_x + 0.5)
        top = math.floor(location[1] / found.downsample_y + 0.5)
        pixels = np.full((height, width, 3), WHITE, np.uint8)
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + width, found.size[0]), min(top + height, found.size[1])
        fd = self._open_fd()
        if x < right and y < bottom:
            blocks = self._level_blocks(fd, level)

            def read(column: int, row: int) -> Pixels:
                def decoded() -> Pixels:
                    return self._block(fd, blocks, column, row, f"level {level}")

                return self._cache.get((level, column, row), decoded)

            covered = pixels[y - top : bottom - top, x - left : right - left]
            copy_rectangle(covered, x, y, blocks.layout, read)
        return pixels

    def get_thumbnail(self, size: Pair) -> Pixels:
        """Return the whole scan in small, each pixel the mean of the area it covers.

        One block after the other is decoded and added up, so a scan without a pyramid takes long
        but no more memory than one with it.

        Args:
            size: largest width and height in pixels. The aspect ratio is kept, and nothing is
                enlarged.

        Returns:
            uint8 (height, width, 3) RGB.

        Raises:
            ValueError: the size is not positive, or the slide is closed.
            SlideError: a block cannot be read, and no finer level can replace it.
            SlideUnavailableError: the storage failed.
        """
        if min(size) < 1:
            raise ValueError(f"a thumbnail of {size[0]} x {size[1]} pixels has no pixels")
        full = self.dimensions
        downsample = max(1.0, full[0] / size[0], full[1] / size[1])
        number = self.get_best_level_for_downsample(downsample)
        level = self._levels[number]
        width, height = (
            max(1, min(round(side / downsample), most))
            for side, most in zip(full, level.size, strict=True)
        )
        scale_x, scale_y = level.size[0] / width, level.size[1] / height
        total = np.full((height, width, 3), 0.5, np.float32)  # halves are rounded up
        fd = self._open_fd()
        blocks = self._level_blocks(fd, number)
        layout = blocks.layout
        for row in range(-(-level.size[1] // layout.block_height)):
            for column in range(-(-level.size[0] // layout.block_width)):
                block = self._block(fd, blocks, column, row, f"level {number}")
                left, top = column * layout.block_width, row * layout.block_height
                # Padding beyond the scan belongs to no pixel.
                block = block[: level.size[1] - top, : level.size[0] - left]
                down = axis_weights(top, top + block.shape[0], scale_y, height)
                across = axis_weights(left, left + block.shape[1], scale_x, width)
                part = area_parts(block, down, across)
                y, x = down.first, across.first
                total[y : y + part.shape[0], x : x + part.shape[1]] += part
        return np.minimum(total, 255).astype(np.uint8)

    def tiles(self, *, workers: int = 2) -> Generator[Tile | UnreadableTile]:
        """Iterate over the tiles of `grid` at 4x, row by row, each exactly once.

        Threads decode a bounded number of blocks ahead of the receiver. Closing the iterator early
        ends the threads and closes its file descriptor.

        Args:
            workers: number of threads.

        Raises:
            ValueError: the slide is closed.
            SlideUnavailableError: the storage failed, while iterating.
            SlideError: after the last tile: the tiles show no bright-field colour.
        """
        return self._stream(self._open_fd(), workers)

    def glimpse(self, column: int, row: int) -> Pixels | None:
        """Return an unreadable tile as a coarser level shows it, None if no level can show it.

        It tells bare glass from tissue; a call needs the pixels at 4x.

        Args:
            column, row: the tile's place in `grid`.

        Returns:
            uint8 (height, width, 3) RGB, the part of the tile that is scan, at the finest of the
            coarser levels that store all of it.

        Raises:
            ValueError: the slide is closed.
            SlideUnavailableError: the storage failed.
        """
        fd, side = self._open_fd(), self.grid.tile_size
        extent = self.grid.extent(column, row)
        for number in range(self._serving + 1, len(self._levels)):
            level = self._levels[number]
            scale_x = self.grid.level0_downsample / level.downsample_x
            scale_y = self.grid.level0_downsample / level.downsample_y
            left, top = math.floor(column * side * scale_x), math.floor(row * side * scale_y)
            right = min(math.ceil((column * side + extent[0]) * scale_x), level.size[0])
            bottom = min(math.ceil((row * side + extent[1]) * scale_y), level.size[1])
            if left >= right or top >= bottom:
                continue
            pixels = np.empty((bottom - top, right - left, 3), np.uint8)
            try:
                blocks = self._blocks_of(fd, level.stored)
                read = self._stored_only(fd, blocks, number)
                copy_rectangle(pixels, left, top, blocks.layout, read)
            except SlideUnavailableError:
                raise
            except (RefusedError, SlideError):
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    reason = f"cannot be read: {error.strerror}"
                    raise SlideUnavailableError(self.path.name, reason) from error
                continue
            return pixels
        return None

    def _stored_only(self, fd: int, blocks: Blocks, level: int) -> Callable[[int, int], Pixels]:
        """Return a function that reads a block of a level and refuses one that is not stored."""

        def read(column: int, row: int) -> Pixels:
            if not blocks.is_stored(column, row):
                raise RefusedError("is not stored")
            return self._cache.get((level, column, row), lambda: blocks.read(fd, column, row))

        return read

    def _stream(self, shared: int, workers: int) -> Generator[Tile | UnreadableTile]:
        fd = os.dup(shared)
        halved = self.metadata.decoding == HALF_SIZE
        blocks = HalvedBlocks(self._blocks) if halved else self._blocks
        stream = TileStream(fd, blocks, self._sampling, self.grid, workers)
        try:
            with closing(iter(stream)) as tiles:  # also if the receiver stops early
                yield from checked_tiles(tiles, self.path, self.grid, deep=self._blocks.bits == 16)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise SlideUnavailableError(self.path.name, reason) from error
        finally:
            os.close(fd)

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path.name} is closed")
        return self._fd

    def _level(self, number: int) -> _Level:
        if not 0 <= number < len(self._levels):
            last = len(self._levels) - 1
            raise ValueError(f"{self.path.name} has no level {number}; its last level is {last}")
        return self._levels[number]

    def _level_blocks(self, fd: int, number: int) -> FallbackBlocks:
        """Return a level's blocks; the finer levels are opened if they have to replace some."""
        level, finer = self._levels[number], None
        behind = finer_level([each.downsample for each in self._levels], number)
        if behind is not None:
            below = self._levels[behind]
            finer = FinerLevel(
                lambda fd: self._level_blocks(fd, behind),
                level.downsample_x / below.downsample_x,
                level.downsample_y / below.downsample_y,
            )
        return FallbackBlocks(self._blocks_of(fd, level.stored), finer)

    def _blocks_of(self, fd: int, stored: _Stored) -> Blocks:
        """Return the image's blocks; its tags are read when it is first needed."""
        with self._choosing_decoder:
            blocks = self._decoders.get(stored.directory.offset)
            if blocks is None:
                with slide_errors(self.path), tifffile_on(fd, [stored.directory]) as tiff:
                    blocks = Blocks(image_of(tiff, stored.index, stored.directory), self._glass)
                self._decoders[stored.directory.offset] = blocks
        return blocks

    def _block(
        self, fd: int, blocks: Blocks | FallbackBlocks, column: int, row: int, where: str
    ) -> Pixels:
        try:
            return blocks.read(fd, column, row)
        except RefusedError as error:
            reason = f"cannot be read: block {column},{row} of {where} {error}"
            raise SlideError(self.path.name, reason) from error
        except OSError as error:
            reason = f"cannot be read: block {column},{row} of {where}: {error.strerror}"
            raise SlideUnavailableError(self.path.name, reason) from error

    def _associated(self, name: str, stored: _Stored) -> Pixels:
        width, height = stored.directory.width, stored.directory.height
        fd = self._open_fd()
        blocks = self._blocks_of(fd, stored)
        pixels = np.empty((height, width, 3), np.uint8)

        def read(column: int, row: int) -> Pixels:
            return self._block(fd, blocks, column, row, f"the {name}")

        copy_rectangle(pixels, 0, 0, blocks.layout, read)
        return pixels


class _BlockCache:
    """The decoded blocks used last, up to a number of bytes. Safe to use from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._blocks: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int], decode: Callable[[], Pixels]) -> Pixels:
        """Return the block under `key`, which `decode` makes where it is not kept."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        block = decode()
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._bytes += block.nbytes
            while self._bytes > self._most_bytes:
                _, oldest = self._blocks.popitem(last=False)
                self._bytes -= oldest.nbytes
        return block


def _stored(image: Image) -> _Stored:
    return _Stored(int(image.page.index), image.directory)


def _tiff_properties(
    metadata: SlideMetadata,
    levels: Sequence[_Level],
    icc_bytes: int,
    comment: str,
    fields: Mapping[str, str],
) -> dict[str, str]:
    """Return the properties that only a TIFF has."""
    found = {}
    if icc_bytes:
        found["openslide.icc-size"] = str(icc_bytes)
    if comment:
        found["openslide.comment"] = comment
    if metadata.focal_plane is not None:
        found["her2d.focal-plane"] = metadata.focal_plane
    if metadata.unread_pictures is not None:
        found["her2d.unread-pictures"] = metadata.unread_pictures
    for number, level in enumerate(levels):
        prefix, directory = f"openslide.level[{number}]", level.stored.directory
        if directory.tiled:
            found[f"{prefix}.tile-width"] = str(directory.block_width)
            found[f"{prefix}.tile-height"] = str(directory.block_height)
    return found | {f"{metadata.vendor}.{key}": value for key, value in fields.items()}
