"""Write an integrator to a skops file that depends on nothing but the integrator.

skops numbers objects by their addresses, names arrays after them, and dates the members of its
archive, so that two files of the same model differ. Here objects are numbered in the order in which
they occur, members are named by their number and dated alike.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import skops.io

from her2d.research.training.study import StudyError
from her2d.system.files import replacing

_SCHEMA = "schema.json"
_ID, _FILE, _LOADER, _CONSTANT = "__id__", "file", "__loader__", "JsonNode"
# The earliest that an archive can state.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_integrator(model: Any, path: Path) -> None:
    """Write a fitted integrator, replacing an earlier file.

    Args:
        model: The integrator.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(integrator_bytes(model))


def check_integrator(path: Path) -> None:
    """Check that an integrator's file is whole.

    Raises:
        StudyError: It is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
    except (OSError, zipfile.BadZipFile):
        damaged = True
    if damaged:
        raise StudyError(f"{path} is damaged. Run `her2d train integrator` again.")


def integrator_bytes(model: Any) -> bytes:
    """Return a skops archive of an integrator; equal integrators give equal bytes."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        names: dict[str, str] = {}
        _renumber(schema, {}, names)
        members = {new: archive.read(old) for old, new in names.items()}
    members[_SCHEMA] = json.dumps(schema, indent=2).encode()
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return found.getvalue()


def _renumber(part: Any, numbers: dict[Any, int], names: dict[str, str]) -> None:
    """Replace addresses of objects and names of members within a part of a schema.

    Args:
        part: The part, which is changed in place.
        numbers: New numbers by address.
        names: New names of members by old name.
    """
    if isinstance(part, list):
        for inner in part:
            _renumber(inner, numbers, names)
    if not isinstance(part, dict):
        return
    if isinstance(part.get(_ID), int):
        # Whether Python stores equal constants once differs between runs; nothing depends on it.
        constant = part.get(_LOADER) == _CONSTANT
        key = (_CONSTANT, len(numbers)) if constant else part[_ID]
        part[_ID] = numbers.setdefault(key, len(numbers) + 1)
    if isinstance(part.get(_FILE), str) and _LOADER in part:
        old = part[_FILE]
        part[_FILE] = names.setdefault(old, f"{len(names) + 1}{Path(old).suffix}")
    for inner in part.values():
        _renumber(inner, numbers, names)
