"""Take blocks away from scans that tifffile wrote, as scanners and bad disks do."""

import struct
from collections.abc import Iterable
from pathlib import Path

import tifffile

OFFSET, BYTE_COUNT = "offset", "byte count"


def leave_out(
    path: Path,
    blocks: Iterable[int],
    *,
    page: int = 0,
    zero: Iterable[str] = (OFFSET, BYTE_COUNT),
) -> None:
    """Write 0 as the offset, the byte count or both of some blocks of a page."""
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[page].tags
        codes = {OFFSET: (324, 273), BYTE_COUNT: (325, 279)}
        found = [tags[code] for name in zero for code in codes[name] if code in tags]
        places = [
            (tag.valueoffset, struct.calcsize(tifffile.TIFF.DATA_FORMATS[tag.dtype]))
            for tag in found
        ]
    with path.open("r+b") as file:
        for index in blocks:
            for at, size in places:
                file.seek(at + index * size)
                file.write(bytes(size))


def overwrite_blocks(path: Path, blocks: Iterable[int], *, page: int = 0) -> None:
    """Overwrite the whole content of some blocks of a page."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page]
        places = [(found.dataoffsets[i], found.databytecounts[i]) for i in blocks]
    with path.open("r+b") as file:
        for at, size in places:
            file.seek(at)
            file.write(b"\xa5" * size)
