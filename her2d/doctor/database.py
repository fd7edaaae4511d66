"""Check whether results can be written, and whether the disk has space for them."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from her2d.db.absence import require_not_lost
from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    NewerDatabase,
    UnreleasedDatabase,
    known_schema_version,
    newest_schema,
    open_existing,
)
from her2d.db.integrity import first_problem
from her2d.db.lock import AlreadyRunningError, require_no_daemon
from her2d.db.place import REMEDY, share_doubt, share_problem
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.permissions import closed, not_writable, remedy, user
from her2d.doctor.units import DAEMON, Properties, is_loaded
from her2d.settings import Settings
from her2d.system.disk_space import existing_folder
from her2d.system.write_transaction import write_transaction

_LOW_BYTES = 5_000_000_000
_EMPTY_BYTES = 500_000_000
_MB = 1e6
_CHECK_S = 5.0
_LOCKED_S = 2.0  # longer than any transaction of a command
_NAME_A_FILE = (
    "Set [results] database to her2d's own file, or to a path where her2d can create a new one."
)


def storage_findings(
    settings: Settings, daemon: Properties | None = None, *, as_service: bool = False
) -> Iterator[Finding]:
    """Check the folders of the database and the heatmaps, and the database itself.

    Args:
        settings: name the folders, and how much must be free there.
        daemon: the properties of the daemon's unit, whose process may use the database.
        as_service: whether permissions are checked as the user of that unit.
    """
    results = settings.results
    for check, folder in (
        ("database's folder", results.database.parent),
        ("heatmaps' folder", results.heatmaps),
    ):
        try:
            yield writable(check, folder)
            yield _room(check, folder, settings.intake.min_free_mb)
        except PermissionError:
            yield closed(check, folder, as_service=as_service)
    try:
        yield _place(results.database)
        yield _lost(settings) or _database(results.database, daemon or {}, as_service=as_service)
    except PermissionError:
        yield closed("database", results.database, as_service=as_service)


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
        return not_writable(check, folder, there, error)
    return ok(check, f"{folder} {'is writable' if there == folder else 'can be created'}.")


def _place(database: Path) -> Finding:
    """Check that the database is on a disk of this machine."""
    check = "database's disk"
    if (problem := share_problem(database)) is not None:
        return failure(check, problem, REMEDY)
    if (doubt := share_doubt(database)) is not None:
        return warning(check, doubt, REMEDY)
    return ok(check, f"{database} is on a disk of this machine.")


def _room(check: str, folder: Path, min_free_mb: float) -> Finding:
    usage = shutil.disk_usage(existing_folder(folder))
    if usage.total < min_free_mb * _MB:
        return failure(
            check,
            f"The disk holds {usage.total / _MB:.0f} MB in all, less than [intake] min_free_mb"
            f" ({min_free_mb:g} MB), so intake is always paused.",
            f"Set min_free_mb below {usage.total / _MB:.0f}, or use a larger disk.",
        )
    if usage.free < min_free_mb * _MB:
        return failure(
            check,
            f"{usage.free / _MB:.0f} MB are free, less than [intake] min_free_mb"
            f" ({min_free_mb:g} MB), so intake is paused.",
            "Run her2d db prune, move old heatmaps away, use a larger disk, or lower min_free_mb.",
        )
    return room(check, folder, "Run her2d db prune, move old heatmaps away, or use a larger disk.")


def room(check: str, folder: Path, what_to_do: str) -> Finding:
    """Check whether a folder's disk is full, or nearly so."""
    free = shutil.disk_usage(existing_folder(folder)).free
    message = f"{free / 1e9:.1f} GB are free."
    if free < _EMPTY_BYTES:
        return failure(check, message, what_to_do)
    return warning(check, message, what_to_do) if free < _LOW_BYTES else ok(check, message)


def _lost(settings: Settings) -> Finding | None:
    """Return the finding that there was a database before; None if there is one or never was.

    Raises:
        PermissionError: its folder cannot be accessed.
    """
    results = settings.results
    try:
        require_not_lost(results.database, results.heatmaps, results.backups)
    except DatabaseError as error:
        if isinstance(error.__cause__, PermissionError):
            raise error.__cause__ from error
        return failure(
            "database",
            str(error),
            "Mount its disk, restore a backup with her2d db restore, or run her2d db create.",
        )
    return None


def _database(path: Path, daemon: Properties, *, as_service: bool) -> Finding:
    check = "database"
    if not path.exists():
        return ok(check, f"{path} does not exist yet; the daemon creates it.")
    try:
        version = known_schema_version(path)
        require_no_daemon(path)
    except AlreadyRunningError as error:
        return _running(check, path, error, daemon)
    except DatabaseError as error:
        return _unusable(check, path, error, as_service=as_service)
    if (damage := first_problem(path, _CHECK_S)) is not None:
        return _damaged(check, f"The database {path} is damaged: {damage}.")
    if 0 < version < newest_schema():
        return warning(
            check,
            f"{path} has schema {version}; this her2d needs schema {newest_schema()}.",
            "No action is needed. her2d run copies the database and updates it at its next start.",
        )
    return _changeable(check, path, as_service=as_service)


def _changeable(check: str, path: Path, *, as_service: bool) -> Finding:
    """Take the lock for writing, and change nothing."""
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return failure(
            check, f"User {user()} cannot write to {path}.", remedy(path, as_service=as_service)
        )
    try:
        with closing(open_existing(path, busy_timeout_s=_LOCKED_S)) as db, write_transaction(db):
            pass
    except (DatabaseError, sqlite3.Error) as error:
        return _unusable(check, path, error, as_service=as_service)
    return ok(check, f"{path} can be changed, and no daemon uses it.")


def _running(check: str, path: Path, error: AlreadyRunningError, daemon: Properties) -> Finding:
    """Report who uses the database: the daemon of the unit, or one that keeps it from starting."""
    if not is_loaded(daemon) or error.process is None:
        return ok(check, str(error))
    if str(error.process) == daemon.get("MainPID"):
        return ok(check, f"{DAEMON} (process {error.process}) works on {path}.")
    return failure(
        check,
        f"{error} {DAEMON} did not start it, and cannot work on the same database.",
        f"Run sudo kill {error.process}, then sudo systemctl restart {DAEMON}.",
    )


def _unusable(
    check: str, path: Path, error: DatabaseError | sqlite3.Error, *, as_service: bool
) -> Finding:
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(cause, PermissionError) or _is_forbidden(cause, path):
        return closed(check, path, as_service=as_service)
    if _code(cause) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return failure(
            check,
            f"Another program keeps the database {path} locked.",
            f"Run sudo fuser -v {path}, which names it, and end it.",
        )
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
    return _damaged(check, str(error))


def _is_forbidden(cause: BaseException | None, path: Path) -> bool:
    """Return whether permissions explain an error of SQLite, which reports no cause."""
    files = (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"))
    return _code(cause) in (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    ) and any(
        file.exists() and not os.access(file, os.R_OK | os.W_OK, effective_ids=True)
        for file in files
    )


def _code(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _damaged(check: str, message: str) -> Finding:
    return failure(
        check,
        message,
        "Run her2d db check for details of the damage, and her2d db restore to restore a backup.",
    )
