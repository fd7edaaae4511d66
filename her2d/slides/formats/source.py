"""What a library that reads a format has to offer, so that a `RegionSlide` can be made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.slides.errors import RefusedError

Pixels = NDArray[np.uint8]


class UnknownFormatError(RefusedError):
    """The library does not recognise the file's format."""


@dataclass(frozen=True, slots=True)
class SourceLevel:
    """One level of the pyramid.

    Attributes:
        width, height: pixels of the level.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
        block: pixels along the side of the squares that are read at once.
    """

    width: int
    height: int
    downsample_x: float
    downsample_y: float
    block: int

    @property
    def downsample(self) -> float:
        """Geometric mean of both axes."""
        return float(np.sqrt(self.downsample_x * self.downsample_y))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Statements:
    """What the files of a scan state; None where they state nothing plausible.

    Attributes:
        vendor: as in SlideMetadata.
        magnification: of the objective, for level 0.
        mpp: micrometres per level-0 pixel.
        barcode: the slide's identifier.
        properties: the library's properties, under OpenSlide's names.
    """

    vendor: str
    magnification: float | None
    mpp: float | None
    barcode: str | None
    properties: Mapping[str, str]


def downsample(base: int, level: int) -> float:
    """Return base pixels per level pixel, as a whole number where rounding explains the rest."""
    whole = max(1, round(base / level))
    return float(whole) if abs(base / whole - level) < 1 else base / level


class Source(Protocol):
    """A scan that a library has opened; several threads may read it at a time."""

    @property
    def levels(self) -> Sequence[SourceLevel]:
        """The pyramid, finest level first."""
        ...

    @property
    def statements(self) -> Statements:
        """What the scan's files state about it."""
        ...

    @property
    def associated(self) -> Mapping[str, tuple[int, int]]:
        """Width and height of the pictures beside the pyramid, by name."""
        ...

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle that lies within a level; x and y are pixels of the level.

        Returns:
            uint8 (height, width, 3) RGB, white where nothing was scanned.

        Raises:
            RefusedError: it cannot be decoded. The error continues "block COLUMN,ROW ...".
            OSError: the storage failed.
        """
        ...

    def read_associated(self, name: str) -> Pixels:
        """Decode a picture beside the pyramid. Raises RefusedError or OSError as `read` does."""
        ...

    def close(self) -> None:
        """Close the scan's files."""
        ...
