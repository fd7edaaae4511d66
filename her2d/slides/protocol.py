"""What every open scan offers, whichever library reads its format."""

from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from her2d.slides.grid import Tile, TileGrid, UnreadableTile
from her2d.slides.metadata import SlideMetadata

Pixels = NDArray[np.uint8]
Pair = tuple[int, int]


class Slide(Protocol):
    """An open scan, as `open_slide` returns it; a context manager that closes its files.

    The names are those of OpenSlide's Python API; `her2d.slides.slide` says what differs. All
    methods may be used by several threads.
    """

    @property
    def path(self) -> Path:
        """Where it was opened."""
        ...

    @property
    def metadata(self) -> SlideMetadata:
        """What the scan's files state about it."""
        ...

    @property
    def grid(self) -> TileGrid:
        """The scan's tiles at 4x."""
        ...

    @property
    def properties(self) -> Mapping[str, str]:
        """OpenSlide's properties, as far as the scan's files state them."""
        ...

    @property
    def associated_images(self) -> Mapping[str, Pixels]:
        """Pictures beside the pyramid, each decoded at access."""
        ...

    @property
    def dimensions(self) -> Pair:
        """Width and height of level 0 in pixels."""
        ...

    @property
    def level_count(self) -> int:
        """Number of levels, at least 1."""
        ...

    @property
    def level_dimensions(self) -> tuple[Pair, ...]:
        """Width and height of each level in pixels, finest level first."""
        ...

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level."""
        ...

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest level whose downsample is at most `downsample`, 0 where none is."""
        ...

    def read_region(self, location: Pair, level: int, size: Pair) -> Pixels:
        """Read a rectangle of a level as uint8 (height, width, 3) RGB, white outside the scan."""
        ...

    def get_thumbnail(self, size: Pair) -> Pixels:
        """Return the whole scan in small, each pixel the mean of the area it covers."""
        ...

    def tiles(self, *, workers: int = 2) -> Generator[Tile | UnreadableTile]:
        """Iterate over the tiles of `grid` at 4x, row by row, each exactly once."""
        ...

    def glimpse(self, column: int, row: int) -> Pixels | None:
        """Return an unreadable tile as a coarser level shows it, None if no level can show it."""
        ...

    def close(self) -> None:
        """Close the scan's files, once no `tiles` iterator reads them."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
