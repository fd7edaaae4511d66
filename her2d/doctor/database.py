"""Can results be written, and is there room for them?"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    NewerDatabase,
    known_schema_version,
    newest_schema,
)
from her2d.db.lock import AlreadyRunningError, require_unheld
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.settings import ResultsSettings
from her2d.system.disk_space import existing_folder
from her2d.system.ownership import who_may

_LOW_BYTES = 5_000_000_000
_EMPTY_BYTES = 500_000_000
_NAME_A_FILE = (
    "[results] database must name her2d's own file, or one that is not there yet: her2d makes it."
)


def storage_findings(settings: ResultsSettings) -> Iterator[Finding]:
    """Look at the database's and the heatmaps' folders, and into the database."""
    for check, folder in (
        ("database's folder", settings.database.parent),
        ("heatmaps' folder", settings.heatmaps),
    ):
        try:
            yield writable(check, folder)
            yield _room(check, folder)
        except PermissionError:
            yield _closed(check, folder)
    try:
        yield _database(settings.database)
    except PermissionError:
        yield _closed("database", settings.database)


def _closed(check: str, path: Path) -> Finding:
    return failure(check, f"{path} is closed to user {os.geteuid()}.", who_may(path))


def writable(check: str, folder: Path) -> Finding:
    """Whether files can be made in `folder`, or the folder itself. Raises PermissionError."""
    there = existing_folder(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".her2d-doctor-") as file:
            file.write(b"a moment")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return failure(
            check,
            f"{there} cannot be written by user {os.geteuid()}: {error.strerror}.",
            f"chown her2d: {there}, or name another folder in the settings.",
        )
    return ok(check, f"{folder} can be {'written' if there == folder else 'made'}.")


def _room(check: str, folder: Path) -> Finding:
    free = shutil.disk_usage(existing_folder(folder)).free
    said = f"{free / 1e9:.1f} GB are free."
    remedy = "Make room: her2d db prune, move old heatmaps away, or use a larger disk."
    if free < _EMPTY_BYTES:
        return failure(check, said, remedy)
    return warning(check, said, remedy) if free < _LOW_BYTES else ok(check, said)


def _unusable(check: str, path: Path, error: DatabaseError) -> Finding:
    if isinstance(error.__cause__, PermissionError):
        return _closed(check, path)
    if isinstance(error, ForeignDatabase) or path.is_dir():
        return failure(check, str(error), _NAME_A_FILE)
    if isinstance(error, NewerDatabase):
        return failure(
            check,
            str(error),
            "Install that version, or stop her2d and her2d db restore a copy of before the update.",
        )
    return failure(
        check,
        str(error),
        "her2d db check says more of the damage; her2d db restore puts a backup in its place.",
    )


def _database(path: Path) -> Finding:
    check = "database"
    if not path.exists():
        return ok(check, f"There is no {path} yet; the daemon makes it.")
    try:
        version = known_schema_version(path)
        require_unheld(path)
    except AlreadyRunningError as error:
        return ok(check, str(error))
    except DatabaseError as error:
        return _unusable(check, path, error)
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return failure(
            check,
            f"{path} cannot be written by user {os.geteuid()}.",
            f"If a command that was run as root made it: chown her2d:her2d {path}*",
        )
    if 0 < version < newest_schema():
        return warning(
            check,
            f"{path} has schema {version}, and this her2d {newest_schema()}.",
            "her2d run brings it up to date at its next start, after a copy.",
        )
    return ok(check, f"{path} can be opened; no daemon works on it.")
