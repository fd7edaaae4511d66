"""Scans that OpenSlide reads (https://openslide.org/formats/): what lies beyond TIFF and DICOM."""

import base64
import binascii
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from her2d.slides.errors import RefusedError
from her2d.slides.formats.source import (
    Pixels,
    SourceLevel,
    Statements,
    UnknownFormatError,
    downsample,
)
from her2d.slides.integrity import open_regular
from her2d.slides.plausible import MAGNIFICATIONS, MPP, plausible
from her2d.system.numerals import read_number

_CACHE_BYTES = 32 * 2**20
_BLOCK = 1024
_SIDES = ("width", "height")
_READ_AS_TIFF = ("generic-tiff", "aperio")
# leica.barcode, philips.PIM_DP_UFS_BARCODE, a Barcode2D; not mirax's BARCODE_TYPE.
_BARCODE_KEY = re.compile(r"(?:\b|_)barcode(?:[12]d|value)?$", re.IGNORECASE)


def open_source(path: Path) -> "OpenSlideSource":
    """Open a scan with OpenSlide.

    Raises:
        UnknownFormatError: OpenSlide does not recognise the file.
        RefusedError: OpenSlide refuses the file; the sentence says why in OpenSlide's words.
        OSError: the storage failed.
    """
    fd = open_regular(path)
    try:
        _check_companions(path)
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor is None or vendor in _READ_AS_TIFF:
            raise UnknownFormatError("is not a complete slide of a format that OpenSlide knows")
        return OpenSlideSource(path, fd, vendor)
    except openslide.OpenSlideError as error:
        _check_storage(fd)
        os.close(fd)
        raise RefusedError(f"is refused by OpenSlide: {_one_line(error)}") from error
    except BaseException:
        os.close(fd)
        raise


class OpenSlideSource:
    """A scan in OpenSlide's hands; see `her2d.slides.formats.source.Source`.

    Attributes:
        levels: the pyramid, finest level first.
        statements: what the scan's files state about it.
        associated: width and height of the pictures beside the pyramid, by name.
    """

    def __init__(self, path: Path, fd: int, vendor: str) -> None:
        """Open the scan once more with OpenSlide, and take over its descriptor `fd`."""
        self._path, self._fd = path, fd
        self._lock = threading.Lock()
        self._handle = _open(path)
        width, height = self._handle.dimensions
        self._downsamples = self._handle.level_downsamples
        self.levels = [
            SourceLevel(
                level_width,
                level_height,
                downsample(width, level_width),
                downsample(height, level_height),
                _BLOCK,
            )
            for level_width, level_height in self._handle.level_dimensions
        ]
        properties = {key: _printable(value) for key, value in self._handle.properties.items()}
        self.statements = _statements(vendor, properties)
        sizes = {
            name: [properties.get(f"openslide.associated.{name}.{side}") for side in _SIDES]
            for name in self._handle.associated_images
        }
        self.associated: Mapping[str, tuple[int, int]] = {
            name: (int(across), int(down))
            for name, (across, down) in sizes.items()
            if across and down
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle of a level; see `Source.read`."""
        scale = self._downsamples[level]
        at = round(x * scale), round(y * scale)
        return self._attempt(lambda slide: slide.read_region(at, level, (width, height)))

    def read_associated(self, name: str) -> Pixels:
        """Decode a picture beside the pyramid; see `Source.read_associated`."""
        return self._attempt(lambda slide: slide.associated_images[name])

    def _attempt(self, read: Callable[[openslide.OpenSlide], Any]) -> Pixels:
        """Return what `read` reads.

        After its first error an OpenSlide handle refuses every call, also of other threads. So the
        handle is replaced, and what failed is read once more with a handle that nobody else has.
        """
        shared = self._handle
        try:
            return _over_white(np.asarray(read(shared)))
        except openslide.OpenSlideError:
            _check_storage(self._fd)
        try:
            with self._lock:
                if self._handle is shared:
                    self._handle = _open(self._path)
            with openslide.OpenSlide(self._path) as own:
                return _over_white(np.asarray(read(own)))
        except openslide.OpenSlideError as error:
            _check_storage(self._fd)
            raise RefusedError(f"cannot be decoded: {_one_line(error)}") from error

    def close(self) -> None:
        """Close the scan's files."""
        self._handle.close()
        os.close(self._fd)


def _open(path: Path) -> openslide.OpenSlide:
    handle = openslide.OpenSlide(path)
    handle.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
    return handle


def _check_companions(path: Path) -> None:
    """Raise RefusedError for a MIRAX file without its folder, which OpenSlide does not name."""
    folder = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and not (folder / "Slidedat.ini").is_file():
        raise RefusedError(
            f"is a MIRAX slide without its pixels, which are in a folder {folder.name} with "
            "Slidedat.ini; copy both"
        )


def _check_storage(fd: int) -> None:
    """Raise OSError if the file cannot be read at all: OpenSlide has one error for everything."""
    os.pread(fd, 1, 0)


def _statements(vendor: str, properties: Mapping[str, str]) -> Statements:
    mpp = [
        plausible(read_number(properties.get(f"openslide.mpp-{axis}", "")), MPP) for axis in "xy"
    ]
    known = [value for value in mpp if value is not None]
    return Statements(
        vendor=vendor,
        magnification=plausible(
            read_number(properties.get("openslide.objective-power", "")), MAGNIFICATIONS
        ),
        mpp=sum(known) / len(known) if known else None,
        barcode=_barcode(vendor, properties),
        properties=properties,
    )


def _barcode(vendor: str, properties: Mapping[str, str]) -> str | None:
    """Return the first property that is named as a barcode and has a value."""
    for key in sorted(properties):
        if (value := properties[key].strip()) and _BARCODE_KEY.search(key):
            return _decoded(value) if vendor == "philips" else value
    return None


def _decoded(value: str) -> str:
    """Return a value of a Philips file, which are Base64 where they are text."""
    try:
        return _printable(base64.b64decode(value, validate=True).decode()) or value
    except (binascii.Error, UnicodeDecodeError):
        return value


def _over_white(pixels: Pixels) -> Pixels:
    """Return RGB over white; what was not scanned is transparent."""
    opacity = pixels[..., 3:]
    if pixels.shape[2] < 4 or opacity.min(initial=255) == 255:
        return np.ascontiguousarray(pixels[..., :3])
    part = pixels[..., :3].astype(np.uint32) * opacity + 255 * (255 - opacity.astype(np.uint32))
    return np.asarray((part + 127) // 255, np.uint8)


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def _one_line(error: Exception) -> str:
    return _printable(" ".join(str(error).split()))[:200]
