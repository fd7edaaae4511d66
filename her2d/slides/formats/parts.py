"""The files of one scan, for formats in which it has several."""

import os
from pathlib import Path

from her2d.slides.formats.recognition import (
    DICOM,
    HAMAMATSU_VMS,
    MIRAX,
    dicom_files,
    recognise,
)
from her2d.system.file_identity import FileStamp

_INDEX_BYTES = 1 << 20  # of a VMS file, which is a short text


def scan_files(path: Path) -> list[Path]:
    """Return every file of the scan at `path`, itself first if it is a file.

    Args:
        path: as for `open_slide`.

    Raises:
        OSError: a folder cannot be read.
    """
    found = recognise(path)
    if found is DICOM and path.is_dir():
        return dicom_files(path)
    if found is MIRAX:
        return [path, *_files_below(path.with_suffix(""))]
    if found is HAMAMATSU_VMS:
        return [path, *_named_in(path)]
    return [path]


def scan_stamp(path: Path) -> FileStamp:
    """Return what the files of the scan at `path` look like now. Raises OSError."""
    return FileStamp.of([file.stat() for file in scan_files(path)])


def _files_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [Path(here, name) for here, _, names in os.walk(folder) for name in names]
    return sorted(file for file in files if file.is_file())


def _named_in(index: Path) -> list[Path]:
    """Return the files beside a VMS file that one of its `key=value` lines names."""
    with index.open("rb") as file:
        lines = file.read(_INDEX_BYTES).decode("latin-1").splitlines()
    names = {line.partition("=")[2].strip() for line in lines if "=" in line}
    return sorted(
        index.parent / name
        for name in names
        if name and Path(name).name == name and (index.parent / name).is_file()
    )
