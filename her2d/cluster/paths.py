"""Where a file of the daemon's machine is on the nodes."""

from collections.abc import Mapping
from pathlib import Path


def path_on_nodes(path: Path, mapping: Mapping[Path, Path]) -> Path:
    """Return a file's path on the nodes: by the longest prefix that is mapped, else unchanged.

    Args:
        path: on the daemon's machine.
        mapping: folders there -> the same folders on the nodes.
    """
    folders = [folder for folder in mapping if path.is_relative_to(folder)]
    if not folders:
        return path
    folder = max(folders, key=lambda each: len(each.parts))
    return mapping[folder] / path.relative_to(folder)
