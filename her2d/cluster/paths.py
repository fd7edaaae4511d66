"""Where a file of the daemon's machine is on the nodes."""

from collections.abc import Mapping
from pathlib import Path


def path_on_nodes(path: Path, mapping: Mapping[Path, Path]) -> Path:
    """Return a file's path on the nodes: by the longest prefix that is mapped, else unchanged.

    Args:
        path: on the daemon's machine.
        mapping: folders there -> the same folders on the nodes.
    """
    folder = _mapped(path, mapping)
    return path if folder is None else mapping[folder] / path.relative_to(folder)


def inbox_on_nodes(path: Path, inbox: Path, mapping: Mapping[Path, Path]) -> Path:
    """Return the folder on the nodes that a file of an inbox is in, and from which no link counts.

    It is the inbox, or what a folder between the inbox and the file is mapped to, which may be
    elsewhere there.

    Args:
        path: of the file, on the daemon's machine.
        inbox: a folder above it.
        mapping: as for `path_on_nodes`.
    """
    folder = _mapped(path, mapping)
    if folder is not None and folder.is_relative_to(inbox):
        return mapping[folder]
    return path_on_nodes(inbox, mapping)


def _mapped(path: Path, mapping: Mapping[Path, Path]) -> Path | None:
    """Return the longest mapped folder above a file; None if there is none."""
    folders = [folder for folder in mapping if path.is_relative_to(folder)]
    return max(folders, key=lambda each: len(each.parts), default=None)
