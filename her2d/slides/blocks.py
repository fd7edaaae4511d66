"""Read and decode the blocks of an image (TIFF tiles or strips) to RGB, one at a time."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.slides.block_format import BlockSize, Samples
from her2d.slides.block_times import read_time
from her2d.slides.byte_codecs import NONE
from her2d.slides.codecs import block_codec
from her2d.slides.errors import RefusedError
from her2d.slides.glass import WHITE, Color
from her2d.slides.images import Image
from her2d.slides.jpeg import JpegDecoder
from her2d.slides.orientation import blocks_behind, mirror, mirrored
from her2d.slides.structure import Directory
from her2d.system.shortage import is_own_shortage

MAX_BLOCK_BYTES = 256 * 2**20  # decoded; a whole 4x scan in one strip is about 80 MiB

_SLICE_ROWS = 256  # rows of each slice that a single uncompressed strip is read in


@dataclass(frozen=True)
class BlockLayout:
    """How an image is divided into `columns` x `rows` blocks.

    Attributes:
        width, height: pixels of the image.
        block_width, block_height: pixels of a block; the last ones may reach beyond the image.
    """

    width: int
    height: int
    block_width: int
    block_height: int

    @property
    def columns(self) -> int:
        """Blocks across."""
        return -(-self.width // self.block_width)

    @property
    def rows(self) -> int:
        """Blocks down."""
        return -(-self.height // self.block_height)

    def extent(self, column: int, row: int) -> tuple[int, int]:
        """Return width and height in pixels of the part of a block that lies within the image."""
        return (
            min(self.block_width, self.width - column * self.block_width),
            min(self.block_height, self.height - row * self.block_height),
        )


class BlockReader(Protocol):
    """Blocks of a level, by her2d or another library; several threads may call `read` at a time."""

    @property
    def layout(self) -> BlockLayout:
        """Where the blocks lie in the level."""
        ...

    @property
    def block_bytes(self) -> int:
        """Size of one decoded block in bytes."""
        ...

    def read(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read and decode one block; errors and result are those of `Blocks.read`.

        A reader for averaging may return a block at half its width and height, if both are even.
        """
        ...


class Blocks:
    """The blocks of one image. Immutable: several threads may call `read` at a time.

    Attributes:
        layout: where the blocks lie in the image.
        block_bytes: size of one decoded block in bytes, at most MAX_BLOCK_BYTES.
        bits: of a sample in the file, 8 or 16.
    """

    def __init__(self, image: Image, glass: Color = WHITE) -> None:
        """Choose the decoder and the conversion to RGB.

        Args:
            image: its file must still be open, because tifffile looks at it once more.
            glass: colour of the blocks that are not stored.

        Raises:
            RefusedError: its compression, pixel format or block size is not supported.
        """
        directory = image.directory
        stored, self._decode, self._to_rgb = block_codec(image)
        self._format, self.bits = stored, stored.bits
        self._offsets, self._sizes = directory.block_offsets, directory.block_bytes
        self.layout = BlockLayout(
            directory.width, directory.height, directory.block_width, directory.block_height
        )
        self._glass = glass
        by_plane = directory.stored.reshape(stored.planes, self.layout.rows, self.layout.columns)
        self._stored: NDArray[np.bool_] = np.logical_or.reduce(by_plane)
        if _is_one_raw_strip(directory):
            self._slice_raw_strip()
        self._mirrored = mirrored(image.page)
        self._shown = self._shown_blocks() if any(self._mirrored) else self._stored
        pixel_bytes = stored.samples * stored.planes * stored.bits // 8
        self.block_bytes = self.layout.block_width * self.layout.block_height * pixel_bytes
        if self.block_bytes > MAX_BLOCK_BYTES:
            raise RefusedError(
                f"has blocks of {self.layout.block_width} x {self.layout.block_height} pixels, "
                f"over the limit of {MAX_BLOCK_BYTES >> 20} MiB"
            )

    def is_stored(self, column: int, row: int) -> bool:
        """Return whether the file has bytes for a block; a block without any is bare glass."""
        return bool(self._shown[row, column])

    def stored_places(self) -> Iterator[tuple[int, int]]:
        """Yield column and row of each block that the file has bytes for, row by row."""
        for place in np.flatnonzero(self._shown):
            row, column = divmod(int(place), self.layout.columns)
            yield column, row

    def any_stored(self, columns: range, rows: range) -> bool:
        """Return whether the file has bytes for at least one block of a rectangle."""
        return bool(self._shown[rows.start : rows.stop, columns.start : columns.stop].any())

    def read(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read and decode one block.

        Args:
            fd: descriptor of the file; its position is neither used nor changed.
            column, row: the block's place in `layout`.

        Returns:
            uint8 (height, width, 3) RGB: the part of the block that lies within the image. Glass
            where the file stores no block.

        Raises:
            RefusedError: the block cannot be decoded. The error continues "block COLUMN,ROW ...".
            OSError: the storage failed.
            MemoryError, OwnShortageError: this process lacks memory or processes.
        """
        width, height = self.layout.extent(column, row)
        if not self.is_stored(column, row):
            return np.full((height, width, 3), self._glass, np.uint8)
        if not any(self._mirrored):
            return self._read_stored(fd, column, row)
        left, top = column * self.layout.block_width, row * self.layout.block_height
        x = self.layout.width - left - width if self._mirrored[0] else left
        y = self.layout.height - top - height if self._mirrored[1] else top
        pixels = np.full((height, width, 3), self._glass, np.uint8)
        copy_rectangle(pixels, x, y, self.layout, lambda *place: self._read_if_there(fd, *place))
        return mirror(pixels, self._mirrored)

    @property
    def can_halve(self) -> bool:
        """Whether blocks may be decoded at half size, which only JPEG can be."""
        decode = self._decode
        return isinstance(decode, JpegDecoder) and decode.can_halve and not any(self._mirrored)

    def read_half(self, fd: int, column: int, row: int) -> NDArray[np.uint8] | None:
        """Read a block and decode it at half its width and height, if `can_halve`.

        Args:
            fd: descriptor of the file; its position is neither used nor changed.
            column, row: the block's place in `layout`.

        Returns:
            uint8 (height, width, 3) RGB: the part of the block that lies within the image, each
            pixel in the place of four. None where it has to be read whole.

        Raises:
            RefusedError: the block cannot be decoded; `read` says so too.
            OSError: the storage failed.
        """
        size = self._size(column, row, 0)
        # A block that begins or ends in the middle of four pixels would be moved by half a pixel.
        left, top = column * self.layout.block_width, row * self.layout.block_height
        if any(edge % 2 for edge in (left, top, size.visible_width, size.visible_height)):
            return None
        if not self.is_stored(column, row):
            return None
        assert isinstance(self._decode, JpegDecoder)
        samples = self._decode.halved(self._fetch(fd, row * self.layout.columns + column), size)
        if samples is None:
            return None
        return self._to_rgb(samples[: size.visible_height // 2, : size.visible_width // 2])

    def _read_if_there(self, fd: int, column: int, row: int) -> NDArray[np.uint8] | None:
        return self._read_stored(fd, column, row) if self._stored[row, column] else None

    def _shown_blocks(self) -> NDArray[np.bool_]:
        """Return which blocks have bytes in the file, by their places as they are shown."""
        layout, (across, down) = self.layout, self._mirrored
        columns = [
            self._stored[:, blocks_behind(column, layout.block_width, layout.width, across)]
            for column in range(layout.columns)
        ]
        by_column = np.stack([found.any(axis=1) for found in columns], axis=1)
        rows = [
            by_column[blocks_behind(row, layout.block_height, layout.height, down)]
            for row in range(layout.rows)
        ]
        return np.stack([found.any(axis=0) for found in rows])

    def _read_stored(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return the visible part of the block that is stored at a column and row."""
        planes = []
        for plane in range(self._format.planes):
            index = (plane * self.layout.rows + row) * self.layout.columns + column
            size = self._size(column, row, plane)
            samples = self._decode_block(self._fetch(fd, index), size)
            planes.append(samples[: size.visible_height, : size.visible_width])
        return self._to_rgb(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1))

    def _fetch(self, fd: int, index: int) -> bytes:
        offset, size = int(self._offsets[index]), int(self._sizes[index])
        if offset == 0 or size == 0:
            raise RefusedError("is missing from the file")
        if size > 2 * self.block_bytes + 2**20:
            raise RefusedError(f"is {size} bytes long, more than its pixels can need")
        with read_time.running():
            data = os.pread(fd, size, offset)
        if len(data) < size:
            raise RefusedError("is cut short: the file ends inside it")
        return data

    def _size(self, column: int, row: int, plane: int) -> BlockSize:
        visible = self.layout.extent(column, row)
        return BlockSize(self.layout.block_width, self.layout.block_height, *visible, plane)

    def _decode_block(self, data: bytes, size: BlockSize) -> Samples:
        """Return samples (h, w, samples), at least those of the visible part of the block."""
        try:
            decoded = self._decode(data, size)
        except RefusedError:
            raise
        # Each codec has its own errors. All mean the same here.
        except Exception as error:
            if is_own_shortage(error):
                raise
            raise RefusedError(f"cannot be decoded: {_one_line(error)}") from error
        if (
            decoded.ndim != 3
            or decoded.shape[0] < size.visible_height
            or decoded.shape[1] < size.visible_width
            or decoded.shape[2] != self._format.samples
            or decoded.dtype.itemsize * 8 != self._format.bits
        ):
            raise RefusedError(f"decodes to an unexpected shape {decoded.shape}")
        return decoded

    def _slice_raw_strip(self) -> None:
        """Treat the image's only strip, which is uncompressed, as blocks of _SLICE_ROWS rows."""
        layout = BlockLayout(
            self.layout.width, self.layout.height, self.layout.block_width, _SLICE_ROWS
        )
        row_bytes = layout.width * self._format.samples * self._format.bits // 8
        first = np.arange(layout.rows, dtype=np.int64) * _SLICE_ROWS
        rows = np.minimum(first + _SLICE_ROWS, layout.height) - first
        # If the strip has too few bytes, its last slices have too few.
        present = np.clip(self._sizes[0] - first * row_bytes, 0, rows * row_bytes)
        self._offsets, self._sizes = self._offsets[0] + first * row_bytes, present
        self._stored = np.repeat(self._stored, layout.rows, axis=0)
        self.layout = layout


def copy_rectangle(
    target: NDArray[np.uint8],
    x: int,
    y: int,
    layout: BlockLayout,
    read: Callable[[int, int], NDArray[np.uint8] | None],
) -> None:
    """Copy a rectangle of an image into `target`, reading each block that it touches once.

    Args:
        target: uint8 (height, width, 3); the rectangle has its size and lies within the image.
        x, y: the rectangle's upper left corner in pixels of the image.
        layout: where the image's blocks lie.
        read: returns the image part of the block at a column and row, uint8 (h, w, 3), or None to
            leave its part of `target` as it is.
    """
    height, width = target.shape[:2]
    across, down = layout.block_width, layout.block_height
    for row in range(y // down, (y + height - 1) // down + 1):
        for column in range(x // across, (x + width - 1) // across + 1):
            block = read(column, row)
            if block is None:
                continue
            left, top = column * across, row * down
            right, bottom = left + block.shape[1], top + block.shape[0]
            x0, x1 = max(x, left), min(x + width, right)
            y0, y1 = max(y, top), min(y + height, bottom)
            part = block[y0 - top : y1 - top, x0 - left : x1 - left]
            target[y0 - y : y1 - y, x0 - x : x1 - x] = part


def _is_one_raw_strip(directory: Directory) -> bool:
    return (
        not directory.tiled
        and directory.compression == NONE
        and directory.block_height == directory.height > _SLICE_ROWS
        and directory.planes == 1
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
