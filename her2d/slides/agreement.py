"""Compare a few blocks of a scan with another page, to learn whether that page is a level of it.

A page may have the shape of a level and show something else, such as a neighbouring section. Both
are averaged over the same few areas of the glass, each divided into cells, and the cells compared.
"""

import errno
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import Blocks, copy_rectangle
from her2d.slides.errors import RefusedError
from her2d.slides.images import Image

Pixels = NDArray[np.uint8]
Cells = NDArray[np.float32]
Decoded = dict[tuple[int, int], Pixels]

# The scan is divided into thirds across and down. The corners and the centre come first: with them,
# a page of which a quarter shows something else is found out.
_THIRDS = 3
_REGIONS = ((0, 0), (2, 2), (2, 0), (0, 2), (1, 1), (1, 0), (1, 2), (0, 1), (2, 1))
_MOST_WINDOWS = 5  # one block each, in the first of these regions that are not background
_WINDOW_PX = 512  # side of a window, or of the scan where it is smaller
_STRIP_WINDOW_PX = (2048, 64)  # of a window in strips, which are decoded whole
_MOST_CELLS = 16  # along a window's side
_CELL_PX = 4.0  # smallest side of a cell, in pixels of the coarser page
_FAINT = 0.25  # a window whose blocks have fewer bytes than this share of the fullest is background

# Measured on real scans, whose levels were made in any way, down to every 16th pixel: the means of
# a window differ by less than 3 and its cells by less than 12; the correlation of cells is over 0.7
# in a window and over 0.9 in all. With other tissue of the same stain it is under 0.2.
_SAME_COLOR = 8.0  # grey values between the means of a window, in any channel
_SAME_CELLS = 16.0  # grey values, mean difference of cells
_SAME_STRUCTURE_OF_WINDOW, _SAME_STRUCTURE = 0.6, 0.8  # correlation of cells
_CONTRAST = 4.0  # grey values; cells that differ less have no structure to correlate
_ENOUGH_CELLS = 16  # to correlate
_GLASS = 215.0  # grey values; a cell that is brighter in every channel is bare glass


@dataclass(frozen=True, slots=True)
class _Window:
    """A rectangle of the scan in pixels."""

    x: int
    y: int
    width: int
    height: int


class BlockComparison:
    """A few windows of a scan, read once, to compare other pages with."""

    def __init__(self, fd: int, base: Image) -> None:
        """Choose the windows; nothing is read yet.

        Args:
            fd: descriptor of the file.
            base: the scan. Its file must still be open in tifffile.
        """
        self._fd = fd
        self._base = base
        self._scan_cells: dict[tuple[_Window, int, int], Cells] = {}

    def shows_the_same(self, image: Image, downsample_x: float, downsample_y: float) -> bool:
        """Return whether a page shows what the scan shows, in each window that both have.

        Args:
            image: another page. Its file must still be open in tifffile.
            downsample_x, downsample_y: pixels of the scan per pixel of the page, at least 1.

        Returns:
            False also where nothing of one of them can be decoded.

        Raises:
            OSError: the storage failed.
        """
        try:
            blocks = Blocks(image)
        except RefusedError:
            return False
        compared: list[tuple[Cells, Cells]] = []
        decoded: Decoded = {}
        for window, scan in zip(self._windows, self._scan, strict=True):
            if scan is None:
                continue
            across, down = (
                max(1, min(_MOST_CELLS, int(side / downsample / _CELL_PX)))
                for side, downsample in (
                    (window.width, downsample_x),
                    (window.height, downsample_y),
                )
            )
            left, top = window.x / downsample_x, window.y / downsample_y
            right = min((window.x + window.width) / downsample_x, image.directory.width)
            bottom = min((window.y + window.height) / downsample_y, image.directory.height)
            x, y = int(left), int(top)
            if right - left < 1 or bottom - top < 1:
                continue
            page = _read(
                self._fd, blocks, decoded, x, y, math.ceil(right) - x, math.ceil(bottom) - y
            )
            if page is None:
                continue
            cells = (
                self._averaged_scan(window, scan, across, down),
                _averaged(page, left - x, top - y, right - x, bottom - y, across, down),
            )
            if not _have_equal_means(*cells):
                return False
            if not _have_equal_structure(*_tissue(*cells), _SAME_STRUCTURE_OF_WINDOW):
                return False
            compared.append(cells)
        if not compared:
            return False
        scans, pages = zip(*compared, strict=True)
        return _have_equal_structure(*_tissue(_joined(scans), _joined(pages)), _SAME_STRUCTURE)

    def windows(self) -> list[Pixels]:
        """Return the windows of the scan that can be decoded, uint8 (height, width, 3) each.

        Raises:
            OSError: the storage failed.
        """
        return [pixels for pixels in self._scan if pixels is not None]

    def sharpness(self, image: Image) -> float:
        """Return how sharp a page of the scan's size is: larger is sharper, 0 is undecodable.

        The measure is the variance of the Laplacian, averaged over the windows. It compares planes
        of one scan with each other and means nothing by itself.

        Raises:
            OSError: the storage failed.
        """
        try:
            blocks = Blocks(image)
        except RefusedError:
            return 0.0
        decoded: Decoded = {}
        found = [
            float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
            for window in self._windows
            if (pixels := _read(self._fd, blocks, decoded, *_rectangle(window))) is not None
        ]
        return sum(found) / len(found) if found else 0.0

    def _averaged_scan(self, window: _Window, scan: Pixels, across: int, down: int) -> Cells:
        key = window, across, down
        if key not in self._scan_cells:
            self._scan_cells[key] = _averaged(scan, 0, 0, window.width, window.height, across, down)
        return self._scan_cells[key]

    @cached_property
    def _windows(self) -> Sequence[_Window]:
        return _windows(self._base)

    @cached_property
    def _scan(self) -> Sequence[Pixels | None]:
        try:
            blocks = Blocks(self._base)
        except RefusedError:
            return [None] * len(self._windows)
        decoded: Decoded = {}
        return [_read(self._fd, blocks, decoded, *_rectangle(window)) for window in self._windows]


def _rectangle(window: _Window) -> tuple[int, int, int, int]:
    return window.x, window.y, window.width, window.height


def _windows(base: Image) -> list[_Window]:
    """Return the fullest block in each part of the scan, or a piece of it."""
    directory = base.directory
    columns = -(-directory.width // directory.block_width)
    rows = -(-directory.height // directory.block_height)
    # With separate planes, the blocks of the first one come first.
    sizes = directory.block_bytes[: rows * columns].reshape(rows, columns)
    fullest = max(1, int(sizes.max()))
    found: dict[tuple[int, int], None] = {}
    for region_x, region_y in _REGIONS:
        top, bottom = _part(region_y, rows)
        left, right = _part(region_x, columns)
        part = sizes[top:bottom, left:right]
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        if part[row, column] >= _FAINT * fullest:
            found[int(left + column), int(top + row)] = None
    return [
        window
        for column, row in list(found)[:_MOST_WINDOWS]
        for window in (_tile(base, column, row) if directory.tiled else _strip_pieces(base, row))
    ]


def _part(region: int, blocks: int) -> tuple[int, int]:
    """Return the blocks [first, last) of a region along one axis, at least one of them."""
    first = min(region * blocks // _THIRDS, blocks - 1)
    return first, max(first + 1, (region + 1) * blocks // _THIRDS)


def _tile(base: Image, column: int, row: int) -> list[_Window]:
    directory = base.directory
    width, height = min(directory.width, _WINDOW_PX), min(directory.height, _WINDOW_PX)
    x = min(column * directory.block_width, directory.width - width)
    y = min(row * directory.block_height, directory.height - height)
    return [_Window(x, y, width, height)]


def _strip_pieces(base: Image, row: int) -> list[_Window]:
    directory = base.directory
    width = min(directory.width, _STRIP_WINDOW_PX[0])
    height = min(
        directory.height, max(_STRIP_WINDOW_PX[1], min(directory.block_height, _WINDOW_PX))
    )
    # The middle of a strip that is taller than the window.
    y = row * directory.block_height + max(0, directory.block_height - height) // 2
    y = min(y, directory.height - height)
    places = {(directory.width - width) * step // (_THIRDS - 1) for step in range(_THIRDS)}
    return [_Window(x, y, width, height) for x in sorted(places)]


def _read(
    fd: int, blocks: Blocks, decoded: Decoded, x: int, y: int, width: int, height: int
) -> Pixels | None:
    """Return a rectangle of a page, uint8 (height, width, 3); None where part is missing.

    Args:
        decoded: blocks of the page that an earlier call decoded, by column and row. One is kept,
            because windows of a coarse page often lie in one block.
    """
    pixels = np.empty((height, width, 3), np.uint8)

    def read(column: int, row: int) -> Pixels:
        if (column, row) not in decoded:
            if not blocks.is_stored(column, row):
                raise RefusedError("is not stored")
            block = blocks.read(fd, column, row)
            decoded.clear()
            decoded[column, row] = block
        return decoded[column, row]

    try:
        copy_rectangle(pixels, x, y, blocks.layout, read)
    except RefusedError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:  # an I/O error concerns the block, other errors the storage
            raise
        return None
    return pixels


def _averaged(
    pixels: Pixels, left: float, top: float, right: float, bottom: float, across: int, down: int
) -> Cells:
    """Return the means of `down` x `across` cells of a rectangle, float32 (down, across, 3)."""
    x, y, width, height = int(left), int(top), int(right - left), int(bottom - top)
    if (left, top, right, bottom) == (x, y, x + width, y + height):
        whole = pixels[y : y + height, x : x + width]
        return np.asarray(
            cv2.resize(whole, (across, down), interpolation=cv2.INTER_AREA), np.float32
        )
    columns = _shares(left, right, across, pixels.shape[1])
    rows = _shares(top, bottom, down, pixels.shape[0])
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    by_row = (rows @ flat).reshape(down, pixels.shape[1], 3)
    cells: Cells = columns @ by_row
    return cells


def _shares(start: float, stop: float, cells: int, pixels: int) -> NDArray[np.float32]:
    """Return each pixel's share in each cell along an axis, float32 (cells, pixels)."""
    edges = np.linspace(start, stop, cells + 1)
    first = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], first + 1) - np.maximum(edges[:-1, None], first)
    shares = np.maximum(overlap, 0.0)
    total: NDArray[np.float32] = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return total


def _joined(cells: Sequence[Cells]) -> Cells:
    return np.concatenate([part.reshape(-1, 3) for part in cells])


def _have_equal_means(scan: Cells, page: Cells) -> bool:
    difference = scan - page
    color = float(np.abs(difference.mean(axis=(0, 1))).max())
    return color <= _SAME_COLOR and float(np.abs(difference).mean()) <= _SAME_CELLS


def _tissue(scan: Cells, page: Cells) -> tuple[Cells, Cells]:
    """Return the cells that are not glass in both: neighbouring sections have one outline."""
    tissue = np.minimum(scan, page).min(axis=-1) < _GLASS
    return scan[tissue], page[tissue]


def _have_equal_structure(scan: Cells, page: Cells, correlation: float) -> bool:
    """Return whether cells (n, 3) rise and fall together; True for too few of them to tell."""
    grey = scan.mean(axis=-1), page.mean(axis=-1)
    if len(grey[0]) < _ENOUGH_CELLS:
        return True
    contrasts = [float(values.std()) for values in grey]
    if max(contrasts) < _CONTRAST:
        return True
    if min(contrasts) < _CONTRAST / 2:
        return False
    return float(np.corrcoef(*grey)[0, 1]) >= correlation
