"""Opens a scan and gives its tiles."""

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tifffile import TiffFile, TiffPage

from her2d.slides.blocks import Blocks
from her2d.slides.errors import RefusedError, SlideError, SlideUnavailableError
from her2d.slides.grid import (
    MAGNIFICATION,
    NOMINAL_UM_PER_PX,
    Tile,
    TileGrid,
    UnreadableTile,
)
from her2d.slides.integrity import complete_structure, open_regular
from her2d.slides.metadata import Resolution, SlideMetadata, describe, read_description
from her2d.slides.pyramid import Image, Level, choose_level, find_pyramid
from her2d.slides.stream import Sampling, TileStream
from her2d.slides.structure import Directory

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_INCH = 2
_ROUNDING = 1e-9
_MAX_TILES = 2**15  # of 512 pixels at 4x, 1.28 mm: a glass of 23 cm x 23 cm

# tifffile logs each oddity of a file it can live with; what matters is checked and said here.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_slide(path: Path, *, assume_magnification: float | None = None) -> "Slide":
    """Opens a whole-slide image: TIFF or BigTIFF of Motic, Aperio, OME or nobody in particular.

    Args:
        path: a regular file.
        assume_magnification: the objective's magnification at level 0 where the file states none
            that can be believed.

    Raises:
        SlideError: the file is incomplete, no TIFF, has no magnification, is coarser than 4x, or
            of a kind that is not read; nothing else is raised for what a file contains.
        SlideUnavailableError: the storage failed.
    """
    path = Path(path)
    with slide_errors(path):
        fd = open_regular(path)
        try:
            return _open(path, fd, assume_magnification)
        except BaseException:
            os.close(fd)
            raise


@contextmanager
def slide_errors(path: Path) -> Iterator[None]:
    """What a file contains, or its storage does, raises SlideError or SlideUnavailableError."""
    try:
        yield
    except RefusedError as error:
        raise SlideError(path.name, str(error)) from error
    except OSError as error:
        raise SlideUnavailableError(path.name, f"cannot be read: {error.strerror}") from error
    # tifffile meets malformed tags with whatever Python raises on them.
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        reason = f"has tags that cannot be understood ({type(error).__name__}: {text})"
        raise SlideError(path.name, reason) from error


class Slide:
    """One open scan; a context manager that closes its file.

    Attributes:
        path: where it was opened.
        metadata: what the file says of the scan.
        grid: its tiles at 4x.
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
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.grid = grid
        self._blocks = blocks
        self._sampling = sampling
        self._fd: int | None = fd

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
        """Closes the file; a `tiles` iterator under way has a descriptor of its own."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def tiles(self, *, workers: int = 2) -> Generator[Tile | UnreadableTile]:
        """Every grid position exactly once, row by row.

        Blocks are decoded by `workers` threads, a bounded number ahead of the receiver. Closing
        the iterator early ends the threads and closes its file descriptor.

        Raises:
            ValueError: the slide is closed.
            SlideUnavailableError: the storage failed, while iterating.
        """
        if self._fd is None:
            raise ValueError(f"{self.path.name} is closed")
        return self._stream(self._fd, workers)

    def _stream(self, shared: int, workers: int) -> Generator[Tile | UnreadableTile]:
        fd = os.dup(shared)
        stream = TileStream(fd, self._blocks, self._sampling, self.grid, workers)
        try:
            yield from stream  # closes it too, should the receiver stop early
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise SlideUnavailableError(self.path.name, reason) from error
        finally:
            os.close(fd)


def _open(path: Path, fd: int, assume_magnification: float | None) -> Slide:
    directories = complete_structure(fd)
    with tifffile_on(fd) as tiff:
        images = [image_of(tiff, index, found) for index, found in enumerate(directories)]
        levels = find_pyramid(images)
        metadata = _describe(images, levels[0].image, assume_magnification)
        level, as_is = choose_level(levels, metadata.magnification)
        blocks = Blocks(level.image)
    grid, sampling = _grid(metadata, level, as_is)
    return Slide(path, fd=fd, metadata=metadata, grid=grid, blocks=blocks, sampling=sampling)


@contextmanager
def tifffile_on(fd: int) -> Iterator[TiffFile]:
    """tifffile on a descriptor of its own, for as long as tags are read."""
    # Its name must say nothing: tifffile treats some extensions specially.
    with os.fdopen(os.dup(fd), "rb") as file, TiffFile(file, name="slide.tif") as tiff:
        yield tiff


def image_of(tiff: TiffFile, index: int, directory: Directory) -> Image:
    """One of a file's images."""
    # Straight to the directory: the chain has been walked, with bounds, already.
    tiff.filehandle.seek(directory.offset)
    return Image(directory, TiffPage(tiff, index))


def _describe(
    images: Sequence[Image], base: Image, assume_magnification: float | None
) -> SlideMetadata:
    descriptions = [base.page.description]
    if images[0] is not base:  # the file's own description stands first, wherever level 0 is
        descriptions.append(images[0].page.description)
    channels = max((read_description(text).channels or 0 for text in descriptions), default=0)
    if channels > base.page.samplesperpixel:
        raise RefusedError(
            f"stores its {channels} channels as separate images: no bright-field RGB scan"
        )
    return describe(
        descriptions,
        _resolution(base.page),
        width=base.directory.width,
        height=base.directory.height,
        assume_magnification=assume_magnification,
    )


def _resolution(page: TiffPage) -> Resolution | None:
    x, y = (_ratio(page.tags.valueof(code)) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    if x is None or y is None:
        return None
    return Resolution(x, y, unit=int(page.tags.valueof(_RESOLUTION_UNIT, default=_INCH)))


def _ratio(value: object) -> float | None:
    match value:
        case (int(numerator), int(denominator)) if denominator:
            return numerator / denominator
    return None


def _grid(metadata: SlideMetadata, level: Level, as_is: bool) -> tuple[TileGrid, Sampling]:
    if as_is:
        width, height = level.image.directory.width, level.image.directory.height
        downsample = level.downsample
        sampling = Sampling(1.0, 1.0, as_is=True)
    else:
        downsample = metadata.magnification / MAGNIFICATION
        sampling = Sampling(
            downsample / level.downsample_x, downsample / level.downsample_y, as_is=False
        )
        # Whole grid pixels only: the strip of less than one that remains is dropped.
        width = int(level.image.directory.width / sampling.scale_x + _ROUNDING)
        height = int(level.image.directory.height / sampling.scale_y + _ROUNDING)
    if min(width, height) < 1:
        raise RefusedError(f"is smaller than one pixel at {MAGNIFICATION:g}x")
    um_per_px = metadata.mpp * downsample if metadata.mpp is not None else NOMINAL_UM_PER_PX
    grid = TileGrid.covering(width, height, um_per_px=um_per_px, level0_downsample=downsample)
    if grid.columns * grid.rows > _MAX_TILES:
        raise RefusedError(
            f"would be {width} x {height} pixels at {MAGNIFICATION:g}x: no glass is that large"
        )
    return grid, sampling
