"""Open a scan whose format her2d does not read itself, with the library that reads it."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from her2d.slides.errors import RefusedError, slide_errors
from her2d.slides.formats.recognition import (
    DICOM,
    NDPI,
    TRESTLE,
    VENTANA,
    Format,
    Library,
    recognise,
)
from her2d.slides.formats.region_slide import RegionSlide
from her2d.slides.formats.source import Source, UnknownFormatError
from her2d.system.extras import installing
from her2d.system.open_files import path_of_open_file

# TIFFs of which her2d reads some by itself. With the library all of them are read by it.
_ALSO_TIFF = (NDPI, TRESTLE, VENTANA)

_READERS = {
    Library.OPENSLIDE: ("openslide", "her2d.slides.formats.openslide_source"),
    Library.WSIDICOM: ("wsidicom", "her2d.slides.formats.dicom_source"),
}


class UnreadableFormatError(RefusedError):
    """Nothing that is installed reads the format."""


class MissingLibraryError(UnreadableFormatError):
    """The library that reads the format is not installed."""

    def __init__(self, found: Format) -> None:
        super().__init__(
            f"is a {found.name}, which {found.library.value} reads; install it with"
            f" {installing('formats')}"
        )


def open_other(
    path: Path, assume_magnification: float | None, um_per_px: float, fd: int | None = None
) -> RegionSlide | None:
    """Open a scan of a format beyond TIFF; return None for what is read, or refused, as TIFF.

    Args:
        path, assume_magnification, um_per_px, fd: as for `her2d.slides.reader.open_slide`.

    Raises:
        SlideError: no library reads the format, it is not installed, or it refuses the scan.
        SlideUnavailableError: the storage failed.
    """
    with slide_errors(path):
        source = open_source(path, fd)
        if source is None:
            return None
        try:
            return RegionSlide(path, source, assume_magnification, um_per_px)
        except BaseException:
            source.close()
            raise


def open_source(path: Path, fd: int | None = None) -> Source | None:
    """Open a scan with the library that reads its format; return None for TIFF.

    Args:
        path: as for `her2d.slides.reader.open_slide`.
        fd: descriptor of the file if it is open already; it must stay open as long as the source.

    Raises:
        RefusedError: no library reads the format, it is not installed, or it refuses the scan.
        OSError: the storage failed.
    """
    found = recognise(path, fd)
    if found is None or found.library is Library.TIFFFILE:
        return None
    if found.library is Library.NONE:
        raise UnreadableFormatError(f"is a {found.name}, which no open library reads; {found.hint}")
    if found is DICOM and (fd is not None or not path.is_dir()):
        raise RefusedError("is one file of a DICOM slide; name the folder that holds all of them")
    try:
        open_: Callable[[Path], Source] = _library(found).open_source
        return open_(path if fd is None else path_of_open_file(fd))
    except (MissingLibraryError, UnknownFormatError):
        if found in _ALSO_TIFF:
            return None
        raise


@contextmanager
def library_named(path: Path, fd: int | None = None) -> Iterator[None]:
    """Name the library that may read a TIFF which her2d refuses, where it is not installed.

    Args:
        path, fd: as for `open_source`.
    """
    try:
        yield
    except RefusedError as error:
        found = recognise(path, fd)
        if found in _ALSO_TIFF:
            try:
                _library(found)
            except MissingLibraryError:
                install = installing("formats")
                error.args = (f"{error}; {found.library.value} may read it: {install}",)
        raise


def _library(found: Format) -> ModuleType:
    """Import the module that reads a format; the libraries are imported only where needed."""
    library, module = _READERS[found.library]
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise MissingLibraryError(found) from error
    return importlib.import_module(module)
