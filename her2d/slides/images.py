"""The images of an open TIFF file, each with its place in the file and its tags."""

import io
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tifffile import TiffFile, TiffPage

from her2d.slides.description import decode_description
from her2d.slides.metadata import count_values
from her2d.slides.structure import Directory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_IMAGE_DESCRIPTION = 270
_VALUE_BYTES = {1: 1, 2: 1, 6: 1, 7: 1, 3: 2}  # BYTE, ASCII, SBYTE, UNDEFINED; SHORT for UTF-16


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


class _CorrectedFile(io.RawIOBase):
    """The bytes of an open file with the corrections of its directories, for reading only."""

    def __init__(self, fd: int, directories: Iterable[Directory]) -> None:
        self._fd = fd
        self._position = 0
        self._corrections = sorted(
            correction for directory in directories for correction in directory.corrections
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self._fd).st_size if start is None else start)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        start = self._position
        count = os.preadv(self._fd, [view], start)
        for at, data in self._corrections:
            first, last = max(at, start), min(at + len(data), start + count)
            if first < last:
                view[first - start : last - start] = data[first - at : last - at]
        self._position += count
        return count


@contextmanager
def tifffile_on(fd: int, directories: Iterable[Directory]) -> Iterator[TiffFile]:
    """Open a file with tifffile, to read tags and to choose decoders.

    What tifffile logs on this thread meanwhile is dropped: it logs every oddity of a file, and the
    oddities that matter are checked and reported in this package.

    Args:
        fd: an open file descriptor; it stays open, and its file position is not changed.
        directories: those of the file; tifffile sees their corrections.

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
        with (
            io.BufferedReader(_CorrectedFile(fd, directories)) as file,
            TiffFile(file, name="slide.tif") as tiff,
        ):
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
    page = TiffPage(tiff, index)
    page.description = _description(tiff, page)
    return Image(directory, page)


def _description(tiff: TiffFile, page: TiffPage) -> str:
    """Return ImageDescription (tag 270), which tifffile reads in two encodings and of one type."""
    tag = page.tags.get(_IMAGE_DESCRIPTION)
    if tag is None or tag.dtype not in _VALUE_BYTES:
        return ""
    tiff.filehandle.seek(tag.valueoffset)
    raw = tiff.filehandle.read(tag.count * _VALUE_BYTES[tag.dtype])
    return decode_description(raw, count_values)
