"""Check that a scan can be what is scored: stained tissue in colour, on bright glass.

A fluorescence scan or one in grey holds no stain that the networks know. It would be scored all the
same, as a slide without tumour. Its tags tell of a single grey channel; the pixels tell the rest,
while the tiles are read, so that no block is decoded for it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from her2d.slides.errors import RefusedError, SlideError
from her2d.slides.grid import Tile, TileGrid, UnreadableTile

_GREY = (0, 1)  # PhotometricInterpretation (tag 262): white is zero, black is zero
_STEP = 8  # every eighth pixel along each side is looked at

_LIGHT = 64  # every channel of glass, of fat and of pale tissue is above this
_LEAST_SHARE = 0.001  # of the pixels of a tile
_BLACK = 40  # the brightest channel of stained tissue is above this
_TINT = 3  # between channels; grey that went through JPEG differs by less
_CONTRAST = 32  # of what is not an empty place


def check_is_coloured(page: TiffPage) -> None:
    """Check that an image has colours, by its tags.

    Args:
        page: tifffile's reading of the tags of a level of the scan.

    Raises:
        RefusedError: it has one grey channel.
    """
    if page.photometric in _GREY:
        raise RefusedError(
            "has no bright-field colour: its pixels are of one grey channel, as from fluorescence "
            "or from a scanner in grey mode; scan it in colour"
        )


def checked_tiles(
    tiles: Iterable[Tile | UnreadableTile], path: Path, grid: TileGrid, *, deep: bool
) -> Iterator[Tile | UnreadableTile]:
    """Yield a scan's tiles, then check that they showed colours on bright glass.

    Args:
        tiles: all tiles of `grid`.
        path: the scan, for the error.
        grid: whose padding is not looked at.
        deep: whether the file has 16 bits a sample.

    Raises:
        SlideError: after the last tile, if the scan is grey or dark throughout.
    """
    seen = _Seen(deep)
    for tile in tiles:
        if isinstance(tile, Tile):
            width, height = grid.extent(tile.column, tile.row)
            seen.look_at(tile.pixels[:height, :width])
        yield tile
    if (problem := seen.problem()) is not None:
        raise SlideError(path.name, problem)


@dataclass(slots=True)
class _Seen:
    """What the tiles of one scan have shown so far.

    Attributes:
        deep: whether the file has 16 bits a sample.
        light: whether anything was as light as glass or pale tissue.
        tinted: whether channels differed anywhere.
        pixels, black: how many were looked at, and how many of these were black.
        darkest, brightest: of all channels.
    """

    deep: bool
    light: bool = False
    tinted: bool = False
    pixels: int = 0
    black: int = 0
    darkest: int = 255
    brightest: int = 0

    def look_at(self, pixels: NDArray[np.uint8]) -> None:
        """Take note of a tile; once a scan is known to be bright and coloured, this costs nothing.

        Args:
            pixels: uint8 (height, width, 3) RGB, of the scan only.
        """
        if self.light and self.tinted:
            return
        some = pixels[::_STEP, ::_STEP].reshape(-1, 3)
        low, high = some.min(axis=1), some.max(axis=1)
        self.light |= bool((low >= _LIGHT).mean() > _LEAST_SHARE)
        self.tinted |= bool((high - low >= _TINT).any())
        self.pixels += len(some)
        self.black += int((high < _BLACK).sum())
        self.darkest = min(self.darkest, int(low.min()))
        self.brightest = max(self.brightest, int(high.max()))

    def problem(self) -> str | None:
        """Return why the scan, of which all tiles were seen, is not one in bright field, or None.

        The text continues the sentence "FILE ...". A scan that is the same everywhere is an empty
        place, and says nothing.
        """
        if self.deep and 0 < self.brightest < _LIGHT:
            return (
                "has no bright-field colour: it is dark throughout, as in fluorescence, or its "
                "values fill few of their 16 bits and no MaxSampleValue (tag 281) says how many"
            )
        if self.brightest - self.darkest < _CONTRAST:
            return None
        if not self.light and 2 * self.black > self.pixels:
            return "has no bright-field colour: it is dark throughout, as in fluorescence"
        if not self.tinted:
            return "has no bright-field colour: all of its pixels are grey"
        return None
