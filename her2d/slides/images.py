"""The images of an open TIFF file, each with its place in the file and its tags."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tifffile import TiffFile, TiffPage

from her2d.slides.structure import Directory


@dataclass(frozen=True, eq=False)
class Image:
    """One image: its place in the file and tifffile's reading of its tags."""

    directory: Directory
    page: TiffPage

    @property
    def area(self) -> int:
        """Pixels."""
        return self.directory.width * self.directory.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.directory.width, self.directory.height

    @property
    def description(self) -> str:
        """ImageDescription (tag 270); empty where there is none."""
        return str(self.page.description)


@contextmanager
def tifffile_on(fd: int) -> Iterator[TiffFile]:
    """Open a duplicate of `fd` with tifffile, to read tags and to choose decoders.

    What tifffile logs on this thread meanwhile is dropped: it logs every oddity of a file, and the
    oddities that matter are checked and reported in this package.

    Args:
        fd: an open file descriptor; it stays open. Its file position changes.

    Raises:
        OSError: the storage failed.
    """
    thread = threading.get_ident()

    def is_from_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("tifffile")
    logger.addFilter(is_from_another_thread)
    try:
        # A neutral name: tifffile treats some file name extensions specially.
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)  # a duplicate shares its position with `fd`, and tifffile starts there
            with TiffFile(file, name="slide.tif") as tiff:
                yield tiff
    finally:
        logger.removeFilter(is_from_another_thread)


def image_of(tiff: TiffFile, index: int, directory: Directory) -> Image:
    """Read the tags of the image that lies at `directory`.

    Args:
        tiff: the open file.
        index: the number tifffile shall give to the page.
        directory: as found by `read_structure`, which has checked its bounds.

    Raises:
        OSError: the storage failed.
        Exception: tifffile raises errors of many kinds for malformed tags.
    """
    # Straight to the directory: the chain of directories has been followed, with bounds, already.
    tiff.filehandle.seek(directory.offset)
    return Image(directory, TiffPage(tiff, index))
