"""Check whether results can be written, and whether the disk has space for them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from her2d.db.absence import require_not_lost
from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    NewerDatabase,
    UnreleasedDatabase,
    known_schema_version,
    newest_schema,
)
from her2d.db.lock import AlreadyRunningError, require_no_daemon
from her2d.db.place import REMEDY, share_doubt, share_problem
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.settings import ResultsSettings
from her2d.system.disk_space import existing_folder
from her2d.system.ownership import access_hint

_LOW_BYTES = 5_000_000_000
_EMPTY_BYTES = 500_000_000
_NAME_A_FILE = (
    "Set [results] database to her2d's own file, or to a path where her2d can create a new one."
)


def storage_findings(settings: ResultsSettings) -> Iterator[Finding]:
    """Check the folders of the database and the heatmaps, and the database itself."""
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
        yield from _place(settings.database)
        yield _lost(settings) or _database(settings.database)
    except PermissionError:
        yield _closed("database", settings.database)


def _closed(check: str, path: Path) -> Finding:
    return failure(check, f"User {os.geteuid()} cannot access {path}.", access_hint(path))


def writable(check: str, folder: Path) -> Finding:
    """Check whether files can be created in a folder or, if it does not exist, the folder itself.

    Raises:
        PermissionError: a parent folder cannot be accessed.
    """
    there = existing_folder(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".her2d-doctor-") as file:
            file.write(b"test")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return failure(
            check,
            f"User {os.geteuid()} cannot write to {there}: {error.strerror}.",
            f"Run chown her2d: {there}, or set another folder in config.toml.",
        )
    return ok(check, f"{folder} {'is writable' if there == folder else 'can be created'}.")


def _place(database: Path) -> Iterator[Finding]:
    """Check that the database is on a disk of this machine, and that none was there before."""
    if (problem := share_problem(database)) is not None:
        yield failure("database's disk", problem, REMEDY)
    elif (doubt := share_doubt(database)) is not None:
        yield warning("database's disk", doubt, REMEDY)
    else:
        yield ok("database's disk", f"{database} is on a disk of this machine.")


def _room(check: str, folder: Path) -> Finding:
    free = shutil.disk_usage(existing_folder(folder)).free
    message = f"{free / 1e9:.1f} GB are free."
    remedy = "Run her2d db prune, move old heatmaps away, or use a larger disk."
    if free < _EMPTY_BYTES:
        return failure(check, message, remedy)
    return warning(check, message, remedy) if free < _LOW_BYTES else ok(check, message)


def _unusable(check: str, path: Path, error: DatabaseError) -> Finding:
    if isinstance(error.__cause__, PermissionError):
        return _closed(check, path)
    if isinstance(error, ForeignDatabase) or path.is_dir():
        return failure(check, str(error), _NAME_A_FILE)
    if isinstance(error, NewerDatabase):
        return failure(
            check,
            str(error),
            "Install that version, or stop her2d and run her2d db restore with a copy from before"
            " the update.",
        )
    if isinstance(error, UnreleasedDatabase):
        return failure(check, str(error), "Move the file away, or set another [results] database.")
    return failure(
        check,
        str(error),
        "Run her2d db check for details of the damage, and her2d db restore to restore a backup.",
    )


def _lost(settings: ResultsSettings) -> Finding | None:
    """Return the finding that there was a database before; None if there is one or never was."""
    try:
        require_not_lost(settings.database, settings.heatmaps, settings.backups)
    except DatabaseError as error:
        return failure(
            "database",
            str(error),
            "Mount its disk, restore a backup with her2d db restore, or run her2d db create.",
        )
    return None


def _database(path: Path) -> Finding:
    check = "database"
    if not path.exists():
        return ok(check, f"{path} does not exist yet; the daemon creates it.")
    try:
        version = known_schema_version(path)
        require_no_daemon(path)
    except AlreadyRunningError as error:
        return ok(check, str(error))
    except DatabaseError as error:
        return _unusable(check, path, error)
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return failure(
            check,
            f"User {os.geteuid()} cannot write to {path}.",
            f"If a command run as root created it, run chown her2d:her2d {path}*",
        )
    if 0 < version < newest_schema():
        return warning(
            check,
            f"{path} has schema {version}; this her2d needs schema {newest_schema()}.",
            "No action is needed. her2d run copies the database and updates it at its next start.",
        )
    return ok(check, f"{path} can be opened, and no daemon uses it.")
