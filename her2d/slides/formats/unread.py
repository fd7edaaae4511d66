"""Why a file in an inbox is not taken as a scan, in a sentence for a technician."""

from dataclasses import dataclass
from pathlib import Path

from her2d.slides.formats.completeness import refused_by_daemon
from her2d.slides.formats.recognition import DICOM, TIFF, Library, recognise


@dataclass(frozen=True, slots=True)
class Unread:
    """What nothing reads.

    Attributes:
        path: the file, or the folder that is one scan together with it.
        reason: one sentence.
    """

    path: Path
    reason: str


def explain_unread(path: Path) -> Unread | None:
    """Return why a file is not taken; None if it is a part of a scan that is named by itself.

    Args:
        path: a regular file whose extension the settings do not list.

    Raises:
        OSError: it cannot be read.
    """
    if _is_part_of_a_mirax_slide(path):
        return None
    found = recognise(path)
    extension = path.suffix.lower()
    if found is DICOM:
        return Unread(path.parent, f"It {refused_by_daemon(found)}.")
    if found is None:
        return Unread(path, f"Nothing here reads such files. {_either(extension, path.name)}")
    if found.library is Library.NONE:
        return Unread(path, f"It is a {found.name}, which no open library reads; {found.hint}.")
    if not found.is_one_file:
        return Unread(path, f"It {refused_by_daemon(found)}.")
    kind = "TIFF" if found is TIFF else found.name
    return Unread(path, f"It is a {kind}. {_either(extension, path.name)}")


def _either(extension: str, name: str) -> str:
    """Say how such files are taken as scans, or not named any more."""
    if not extension:
        return f"Add {name!r} to [intake] ignore if it may stay."
    return (
        f"Add {extension!r} to [intake] extensions if such files are scans, or '*{extension}' to"
        " [intake] ignore if they may stay."
    )


def _is_part_of_a_mirax_slide(path: Path) -> bool:
    """Return whether a folder above the file lies beside the MIRAX file of the same name."""
    return any(folder.with_name(f"{folder.name}.mrxs").is_file() for folder in path.parents[:3])
