"""Read and decode the blocks of an image (TIFF tiles or strips) to RGB, one at a time."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from her2d.slides.colour import Samples, ToRGB, rgb_converter
from her2d.slides.errors import RefusedError
from her2d.slides.glass import WHITE, Color
from her2d.slides.images import Image
from her2d.slides.jpeg2000 import check_jpeg, check_jpeg2000, check_jpeg_tables
from her2d.slides.lzw import decode_lzw
from her2d.slides.structure import Directory

MAX_BLOCK_BYTES = 256 * 2**20  # decoded; a whole 4x scan in one strip is about 80 MiB

_SLICE_ROWS = 256  # rows of each slice that a single uncompressed strip is read in
_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS, _ADOBE_DEFLATE = 1, 5, 7, 32946, 32773, 8
_JPEG_2000 = frozenset({33003, 33005, 34712})
_WITH_PREDICTOR = frozenset({_LZW, _DEFLATE, _ADOBE_DEFLATE})
_COMPRESSIONS = frozenset({_NONE, _JPEG, _PACKBITS}) | _WITH_PREDICTOR | _JPEG_2000
_JPEG_TABLES = 347

Decode = Callable[[bytes, int], NDArray[Any]]


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


class Blocks:
    """The blocks of one image. Immutable: several threads may call `read` at a time.

    Attributes:
        layout: where the blocks lie in the image.
        block_bytes: size of one decoded block in bytes, at most MAX_BLOCK_BYTES.
    """

    def __init__(self, image: Image, glass: Color = WHITE) -> None:
        """Choose the decoder and the conversion to RGB.

        Args:
            image: its file must still be open, because tifffile looks at it once more.
            glass: colour of the blocks that are not stored.

        Raises:
            RefusedError: its compression, pixel format or block size is not supported.
        """
        directory, page = image.directory, image.page
        self._to_rgb: ToRGB = rgb_converter(page)
        self._bits = int(page.bitspersample)
        self._samples = int(page.samplesperpixel) if directory.planes == 1 else 1
        _check_format(page, directory, self._samples * directory.planes)
        self._compression = directory.compression
        self._planes, self._tiled = directory.planes, directory.tiled
        self._offsets, self._sizes = directory.block_offsets, directory.block_bytes
        self.layout = BlockLayout(
            directory.width, directory.height, directory.block_width, directory.block_height
        )
        self._glass = glass
        by_plane = directory.stored.reshape(self._planes, self.layout.rows, self.layout.columns)
        self._stored: NDArray[np.bool_] = np.logical_or.reduce(by_plane)
        if _is_one_raw_strip(directory, page):
            self._slice_raw_strip()
        pixel_bytes = self._samples * self._planes * self._bits // 8
        self.block_bytes = self.layout.block_width * self.layout.block_height * pixel_bytes
        if self.block_bytes > MAX_BLOCK_BYTES:
            raise RefusedError(
                f"has blocks of {self.layout.block_width} x {self.layout.block_height} pixels, "
                f"over the limit of {MAX_BLOCK_BYTES >> 20} MiB"
            )
        self._decode = self._decoder(page)

    def is_stored(self, column: int, row: int) -> bool:
        """Return whether the file has bytes for a block; a block without any is bare glass."""
        return bool(self._stored[row, column])

    def any_stored(self, columns: range, rows: range) -> bool:
        """Return whether the file has bytes for at least one block of a rectangle."""
        return bool(self._stored[rows.start : rows.stop, columns.start : columns.stop].any())

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
        """
        width, height = self.layout.extent(column, row)
        if not self.is_stored(column, row):
            return np.full((height, width, 3), self._glass, np.uint8)
        planes = []
        for plane in range(self._planes):
            index = (plane * self.layout.rows + row) * self.layout.columns + column
            samples = self._decode_block(self._fetch(fd, index), index, width, height)
            planes.append(samples[:height, :width])
        return self._to_rgb(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1))

    def _fetch(self, fd: int, index: int) -> bytes:
        offset, size = int(self._offsets[index]), int(self._sizes[index])
        if offset == 0 or size == 0:
            raise RefusedError("is missing from the file")
        if size > 2 * self.block_bytes + 2**20:
            raise RefusedError(f"is {size} bytes long, more than its pixels can need")
        data = os.pread(fd, size, offset)
        if len(data) < size:
            raise RefusedError("is cut short: the file ends inside it")
        return data

    def _decode_block(self, data: bytes, index: int, width: int, height: int) -> Samples:
        """Return samples (h, w, samples), at least `height` x `width` of them."""
        sizes = frozenset(
            (w, h)
            for w in (self.layout.block_width, width)
            for h in (self.layout.block_height, height)
        )
        if self._compression == _JPEG:
            check_jpeg(data, sizes=sizes, samples=self._samples)
        elif self._compression in _JPEG_2000:
            check_jpeg2000(data, sizes=sizes, samples=self._samples, bits=self._bits)
        try:
            decoded = self._decode(data, index)
        # Each codec has its own errors, and tifffile raises many kinds. All mean the same here.
        except Exception as error:
            raise RefusedError(f"cannot be decoded: {_one_line(error)}") from error
        if (
            decoded.ndim != 3
            or decoded.shape[0] < height
            or decoded.shape[1] < width
            or decoded.shape[2] != self._samples
            or decoded.dtype.itemsize * 8 != self._bits
        ):
            raise RefusedError(f"decodes to an unexpected shape {decoded.shape}")
        return decoded

    def _decoder(self, page: TiffPage) -> Decode:
        if self._compression == _NONE:
            return self._raw_decoder(page)
        if self._compression == _LZW:
            return self._lzw_decoder(page)
        tables = None
        if self._compression == _JPEG and (tag := page.tags.get(_JPEG_TABLES)) is not None:
            tables = bytes(tag.value)
            check_jpeg_tables(tables)
        tifffile_decode = page.decode

        def decode(data: bytes, index: int) -> NDArray[Any]:
            samples, _, _ = tifffile_decode(data, index, jpegtables=tables)
            pixels: NDArray[Any] = np.asarray(samples)[0]  # without depth
            return pixels

        return decode

    def _lzw_decoder(self, page: TiffPage) -> Decode:
        bits, predictor, byteorder = self._bits, int(page.predictor), page.parent.byteorder

        def decode(data: bytes, index: int) -> NDArray[Any]:
            return decode_lzw(
                data,
                shape=self._stored_shape(index),
                bits=bits,
                predictor=predictor,
                byteorder=byteorder,
            )

        return decode

    def _raw_decoder(self, page: TiffPage) -> Decode:
        dtype = np.dtype(f"{page.parent.byteorder}u{self._bits // 8}")

        def decode(data: bytes, index: int) -> NDArray[Any]:
            shape = self._stored_shape(index)
            count = math.prod(shape)
            if len(data) < count * dtype.itemsize:
                raise ValueError("not enough bytes")
            pixels = np.frombuffer(data, dtype, count).astype(dtype.newbyteorder("="))
            return pixels.reshape(shape)

        return decode

    def _stored_shape(self, index: int) -> tuple[int, int, int]:
        """Return height, width and samples of a stored block; the last strip has fewer rows."""
        row = index // self.layout.columns % self.layout.rows
        height = self.layout.block_height if self._tiled else self.layout.extent(0, row)[1]
        return height, self.layout.block_width, self._samples

    def _slice_raw_strip(self) -> None:
        """Treat the image's only strip, which is uncompressed, as blocks of _SLICE_ROWS rows."""
        layout = BlockLayout(
            self.layout.width, self.layout.height, self.layout.block_width, _SLICE_ROWS
        )
        row_bytes = layout.width * self._samples * self._bits // 8
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


def _is_one_raw_strip(directory: Directory, page: TiffPage) -> bool:
    return (
        not directory.tiled
        and directory.compression == _NONE
        and directory.block_height == directory.height > _SLICE_ROWS
        and directory.planes == 1
    )


def _check_format(page: TiffPage, directory: Directory, samples: int) -> None:
    if directory.compression not in _COMPRESSIONS or page.compression != directory.compression:
        raise RefusedError(
            f"has pixels compressed in a way (TIFF code {directory.compression}) that is not "
            "supported; export it with JPEG or LZW compression"
        )
    if page.predictor not in ((1, 2) if directory.compression in _WITH_PREDICTOR else (1,)):
        raise RefusedError(
            f"has pixels with a predictor ({int(page.predictor)}) that is not supported"
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise RefusedError("is a volume, not a slide")
    if page.imagewidth != directory.width or page.imagelength != directory.height:
        raise RefusedError("contradicts itself about its dimensions")
    if samples != page.samplesperpixel:
        raise RefusedError("contradicts itself about its samples")
    if directory.compression == _JPEG and page.bitspersample != 8:
        raise RefusedError(f"has JPEG pixels of {page.bitspersample} bits; 8 can be read")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
