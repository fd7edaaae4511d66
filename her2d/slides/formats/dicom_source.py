"""DICOM whole-slide images (PS3.3, A.32.8): a folder with a file for each level, by wsidicom."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import VLWholeSlideMicroscopyImageStorage
from wsidicom import WsiDicom
from wsidicom.config import Settings

from her2d.slides.blocks import MAX_BLOCK_BYTES
from her2d.slides.errors import RefusedError
from her2d.slides.formats.recognition import MAX_INSTANCES, dicom_files
from her2d.slides.formats.source import Pixels, SourceLevel, Statements, downsample
from her2d.slides.plausible import MAGNIFICATIONS, MPP, plausible
from her2d.slides.structure import MAX_PIXELS, MAX_SIDE
from her2d.system.numerals import read_number
from her2d.system.shortage import is_own_shortage

_CACHE_BYTES = 32 * 2**20  # of decoded, and as much of encoded frames
_BLOCK = 1024
_HEADER = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "ContainerIdentifier",
    "BarcodeValue",
    "ImageType",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixFocalPlanes",
    "NumberOfOpticalPaths",
    "OpticalPathSequence",
    "SharedFunctionalGroupsSequence",
    "Manufacturer",
    "ManufacturerModelName",
]


def open_source(folder: Path) -> "DicomSource":
    """Open the DICOM slide in a folder.

    Raises:
        RefusedError: it holds no whole-slide image, or more than one scan, or no colours.
        OSError: the storage failed.
    """
    files = dicom_files(folder)
    if len(files) > MAX_INSTANCES:
        raise RefusedError(f"holds more than {MAX_INSTANCES} DICOM files; no slide has that many")
    headers = {file: _header(file) for file in files}
    slides = {
        file: header
        for file, header in headers.items()
        if header.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage
    }
    volumes = {file: header for file, header in slides.items() if _flavour(header) == "VOLUME"}
    if not volumes:
        raise RefusedError("holds DICOM files, and none of them is a whole-slide image")
    _check_one_scan(list(volumes.values()))
    series = next(iter(volumes.values())).get("SeriesInstanceUID")
    wanted = [file for file, header in slides.items() if header.get("SeriesInstanceUID") == series]
    settings = Settings(
        decoded_frame_cache_size=_CACHE_BYTES, encoded_frame_cache_size=_CACHE_BYTES
    )
    with _wsidicom_errors():
        slide = WsiDicom.open(wanted, settings=settings)
    try:
        return DicomSource(slide, _base(list(volumes.values())))
    except BaseException:
        slide.close()
        raise


class DicomSource:
    """A scan in wsidicom's hands; see `her2d.slides.formats.source.Source`.

    Attributes:
        levels: the pyramid, finest level first.
        statements: what the scan's files state about it.
        associated: width and height of the pictures beside the pyramid, by name.
    """

    def __init__(self, slide: WsiDicom, base: Dataset) -> None:
        """Take over an open slide.

        Raises:
            RefusedError: it has several scanned areas.
        """
        if len(slide.pyramids) > 1:
            raise RefusedError(
                f"holds {len(slide.pyramids)} scanned areas, and the HER2 status is that of all of "
                "them together; scan them as one area, or export each to its own folder"
            )
        self._slide = slide
        found = sorted(slide.levels, key=lambda level: -level.size.width)
        self._numbers = [level.level for level in found]
        size = found[0].size
        self.levels = [
            SourceLevel(
                level.size.width,
                level.size.height,
                downsample(size.width, level.size.width),
                downsample(size.height, level.size.height),
                _block(level.tile_size.width, level.tile_size.height),
            )
            for level in found
        ]
        self.statements = _statements(base)
        pictures = {"label": slide.labels, "macro": slide.overviews}
        self._pictures = {
            name: group.get(0) for name, group in pictures.items() if group is not None
        }
        self.associated: Mapping[str, tuple[int, int]] = {
            name: (picture.size.width, picture.size.height)
            for name, picture in self._pictures.items()
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """Read a rectangle of a level; see `Source.read`."""
        with _wsidicom_errors():
            pixels = self._slide.read_region(
                (x, y), self._numbers[level], (width, height), threads=1, as_array=True
            )
        return np.ascontiguousarray(pixels[..., :3], np.uint8)

    def read_associated(self, name: str) -> Pixels:
        """Decode a picture beside the pyramid; see `Source.read_associated`."""
        read = {"label": self._slide.read_label, "macro": self._slide.read_overview}[name]
        with _wsidicom_errors():
            return np.ascontiguousarray(np.asarray(read().convert("RGB")), np.uint8)

    def close(self) -> None:
        """Close the scan's files."""
        self._slide.close()


@contextmanager
def _wsidicom_errors() -> Iterator[None]:
    """Raise RefusedError for a file's content: pydicom, Pillow and wsidicom raise many kinds."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise RefusedError(f"cannot be decoded: {_one_line(error)}") from error
    except Exception as error:
        if is_own_shortage(error):
            raise
        text = f"{type(error).__name__}: {_one_line(error)}"
        raise RefusedError(f"cannot be decoded ({text})") from error


def _header(file: Path) -> Dataset:
    """Return the tags that are used here, without pixels."""
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER))
    except OSError:
        raise
    except Exception as error:
        if is_own_shortage(error):
            raise
        text = _one_line(error)
        raise RefusedError(f"holds {file.name}, whose tags cannot be understood: {text}") from error


def _check_one_scan(volumes: Sequence[Dataset]) -> None:
    """Raise RefusedError where the files are more, or other, than one scan in colour."""
    names = ("SeriesInstanceUID", "ContainerIdentifier")
    slides = {tuple(image.get(name) for name in names) for image in volumes}
    if len(slides) > 1:
        raise RefusedError(f"holds {len(slides)} DICOM slides; give each a folder for itself")
    samples = {(image.get("SamplesPerPixel"), image.get("BitsAllocated")) for image in volumes}
    if samples != {(3, 8)}:
        raise RefusedError("has no bright-field colour, which is three samples of 8 bits a pixel")
    if any((image.get("NumberOfOpticalPaths") or 1) > 1 for image in volumes):
        raise RefusedError("has several optical paths; a bright-field scan has one")
    if any((image.get("TotalPixelMatrixFocalPlanes") or 1) > 1 for image in volumes):
        raise RefusedError("has several focal planes; export the sharpest one alone")
    if any(not _spacing(image) for image in volumes):
        raise RefusedError("has no PixelSpacing, which every DICOM slide must state")
    for image in volumes:
        sides = [image.get(f"TotalPixelMatrix{side}") or 0 for side in ("Columns", "Rows")]
        block = [image.get(side) or 0 for side in ("Columns", "Rows")]
        if not (min(sides) > 0 and max(sides) <= MAX_SIDE and sides[0] * sides[1] <= MAX_PIXELS):
            raise RefusedError(f"states a size of {sides[0]} x {sides[1]} pixels")
        if not (min(block) > 0 and block[0] * block[1] * 3 <= MAX_BLOCK_BYTES):
            raise RefusedError(f"has blocks of {block[0]} x {block[1]} pixels")


def _flavour(header: Dataset) -> str:
    """Return what the image shows: VOLUME, LABEL, OVERVIEW or THUMBNAIL (PS3.3, C.8.12.4.1.1)."""
    kind = header.get("ImageType") or []
    return str(kind[2]) if len(kind) > 2 else ""


def _base(volumes: Sequence[Dataset]) -> Dataset:
    return max(volumes, key=lambda image: int(image.TotalPixelMatrixColumns))


def _spacing(image: Dataset) -> list[float]:
    """Return millimetres per pixel, down and across; nothing where they are not stated."""
    groups = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
    measures = (groups[0].get("PixelMeasuresSequence") or [Dataset()])[0]
    return [float(value) for value in measures.get("PixelSpacing") or []]


def _statements(base: Dataset) -> Statements:
    paths = base.get("OpticalPathSequence") or [Dataset()]
    mpp = plausible(sum(_spacing(base)) / 2 * 1000, MPP)
    magnification = plausible(read_number(str(paths[0].get("ObjectiveLensPower"))), MAGNIFICATIONS)
    barcode = str(base.get("BarcodeValue") or base.get("ContainerIdentifier") or "")
    names = ("ContainerIdentifier", "BarcodeValue", "Manufacturer", "ManufacturerModelName")
    properties = {f"dicom.{name}": _one_line(value) for name in names if (value := base.get(name))}
    return Statements(
        vendor="dicom",
        magnification=magnification,
        mpp=mpp,
        barcode=_one_line(barcode) or None,
        properties=properties,
    )


def _block(width: int, height: int) -> int:
    """Return the side of the squares to read: whole frames, as many as fit."""
    side = max(width, height)
    return side * max(1, _BLOCK // side)


def _one_line(text: object) -> str:
    return "".join(filter(str.isprintable, " ".join(str(text).split())))[:200]
