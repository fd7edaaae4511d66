"""Which format a file or a folder has, by its content, and which library reads it.

Only a few bytes are read. Names count only where the content says nothing: the file that stands for
a MIRAX slide is a JPEG, and most scanners' own formats begin with nothing in particular.
"""

import os
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MAX_INSTANCES = 1024  # files of one DICOM slide; a pyramid has about ten

_DICOM_PREFIX = 128
_HEAD_BYTES = _DICOM_PREFIX + 4
_NDPI_TAG = 65420
_MAX_ENTRIES = 4096
_SOFTWARE, _XMP = 305, 700
_MOST_TEXT = 65_536  # of a tag, in bytes
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_BIGTIFF = {b"II+\0": "<", b"MM\0+": ">"}


class Library(Enum):
    """The library that reads a format."""

    TIFFFILE = "tifffile"
    OPENSLIDE = "OpenSlide"
    WSIDICOM = "wsidicom"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Format:
    """A format of scans.

    Attributes:
        name: as in "is a MIRAX slide".
        library: which reads it.
        files: how many files one scan has: "one", or what else belongs to it.
        hint: what to do with a format that nothing here reads.
    """

    name: str
    library: Library
    files: str = "one"
    hint: str = ""

    @property
    def is_one_file(self) -> bool:
        """Whether one file is the whole scan, so that the daemon can take it."""
        return self.files == "one"


TIFF = Format("TIFF", Library.TIFFFILE)
NDPI = Format("Hamamatsu NDPI slide", Library.OPENSLIDE)
VENTANA = Format("Ventana BIF slide", Library.OPENSLIDE)
TRESTLE = Format("Trestle slide", Library.OPENSLIDE)
CZI = Format("Zeiss CZI slide", Library.OPENSLIDE)
SAKURA = Format("Sakura slide", Library.OPENSLIDE)
MIRAX = Format("MIRAX slide", Library.OPENSLIDE, "a folder of the same name beside it")
HAMAMATSU_VMS = Format("Hamamatsu VMS slide", Library.OPENSLIDE, "the files it names beside it")
DICOM = Format("DICOM slide", Library.WSIDICOM, "all DICOM files of its folder")

_MOTIC = "export it as TIFF with Motic's software"
_CONVERT = "export it as TIFF or DICOM with the scanner's software"
_UNREADABLE = {
    ".mds": Format("slide in Motic's own format MDS", Library.NONE, hint=_MOTIC),
    ".mdsx": Format("slide in Motic's own format MDSX", Library.NONE, hint=_MOTIC),
    ".isyntax": Format("Philips iSyntax slide", Library.NONE, hint=_CONVERT),
    ".vsi": Format("Olympus VSI slide", Library.NONE, hint=_CONVERT),
    ".kfb": Format("KFBio slide", Library.NONE, hint=_CONVERT),
    ".sdpc": Format("Sqray slide", Library.NONE, hint=_CONVERT),
    ".tmap": Format("UNIC slide", Library.NONE, hint=_CONVERT),
}
_VMS_HEADS = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")

# What `her2d scan FOLDER` looks for beside the settings' extensions. Content decides how each is
# read.
EXTENSIONS = (".ndpi", ".scn", ".bif", ".czi", ".svslide", ".mrxs", ".vms", ".vmu")


def recognise(path: Path, fd: int | None = None) -> Format | None:
    """Return the format of a file, or of a folder that is one DICOM slide; None if it is unknown.

    Args:
        path: the file or folder.
        fd: descriptor of the file if it is open already.

    Raises:
        OSError: it cannot be read.
    """
    if fd is not None:
        return _UNREADABLE.get(path.suffix.lower()) or _by_content(fd, path)
    if path.is_dir():
        return DICOM if dicom_files(path) else None
    if not path.is_file():
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return recognise(path, fd)
    finally:
        os.close(fd)


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files directly in a folder, by name, at most MAX_INSTANCES + 1 of them.

    Raises:
        OSError: the folder or a file in it cannot be read.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and is_dicom(Path(entry.path)):
                found.append(Path(entry.path))
                if len(found) > MAX_INSTANCES:
                    break
    return sorted(found)


def is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM file (PS3.10): `DICM` after 128 bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(fd, 4, _DICOM_PREFIX) == b"DICM"
    finally:
        os.close(fd)


def _by_content(fd: int, path: Path) -> Format | None:
    head = os.pread(fd, _HEAD_BYTES, 0)
    suffix = path.suffix.lower()
    if head[:4] in _TIFF or head[:4] in _BIGTIFF:
        return _format_of_tiff(fd, head)
    kinds = (
        (head[_DICOM_PREFIX:] == b"DICM", DICOM),
        (head.startswith(b"ZISRAWFILE"), CZI),
        (head.startswith(b"SQLite format 3\0") and suffix == ".svslide", SAKURA),
        (head.startswith(_VMS_HEADS), HAMAMATSU_VMS),
        (suffix == ".mrxs", MIRAX),
        (head.startswith(_OLE), _UNREADABLE[".mds"]),
    )
    return next((kind for is_it, kind in kinds if is_it), None)


def _format_of_tiff(fd: int, head: bytes) -> Format:
    """Return the format of a TIFF: NDPI, and those whose tiles overlap, have names."""
    size = os.fstat(fd).st_size
    head = head.ljust(_HEAD_BYTES, b"\0")  # a file that was cut off
    if (order := _BIGTIFF.get(head[:4])) is not None:
        starts, big = struct.unpack(order + "8xQ", head[:16]), True
    else:
        order, big = _TIFF[head[:4]], False
        # NDPI's offset has 64 bits, so that the file can be larger than 4 GB.
        starts = (*struct.unpack(order + "4xQ", head[:12]), *struct.unpack(order + "4xI", head[:8]))
    for start in starts:
        if start < size:
            tags = _first_directory(fd, start, order, big)
            if not big and _NDPI_TAG in tags:
                return NDPI
            if b"<iScan" in _text(fd, tags.get(_XMP), order):
                return VENTANA
            if _text(fd, tags.get(_SOFTWARE), order).startswith(b"MedScan"):
                return TRESTLE
    return TIFF


def _first_directory(fd: int, start: int, order: str, big: bool) -> dict[int, tuple[int, bytes]]:
    """Return count and value field of each tag in the directory at `start`."""
    counter, entry = ("Q", "HHQ8s") if big else ("H", "HHI4s")
    width = struct.calcsize(order + counter)
    head = os.pread(fd, width, start)
    if len(head) < width:
        return {}
    (count,) = struct.unpack(order + counter, head)
    step = struct.calcsize(order + entry)
    data = os.pread(fd, min(count, _MAX_ENTRIES) * step, start + width)
    whole = data[: len(data) // step * step]
    return {tag: (n, value) for tag, _, n, value in struct.iter_unpack(order + entry, whole)}


def _text(fd: int, found: tuple[int, bytes] | None, order: str) -> bytes:
    """Return the beginning of a tag's text."""
    if found is None:
        return b""
    count, value = found
    if count <= len(value):
        return value[:count]
    (offset,) = struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)
    return os.pread(fd, min(count, _MOST_TEXT), offset) if offset < 2**63 else b""
