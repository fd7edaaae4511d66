"""Copy a database that other processes write to into one file."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    foreign_database_error,
    readonly_uri,
    require_database,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.system.files import PRIVATE, replacing
from her2d.system.ownership import access_hint, copy_permissions

_PATIENCE_S = 300.0
_LONGEST_COPY_S = 86_400.0
_UNFINISHED = f"*-{'[0-9]' * 8}T{'[0-9]' * 12}Z.part*"  # and SQLite's journal beside it
_BUSY_TIMEOUT_S = 5.0


def file_timestamp() -> str:
    """Return the current time as the names of copies contain it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def write_checked_copy(database: Path, target: Path) -> None:
    """Copy the database to `target`, check the copy, and give it the same owner and permissions.

    Args:
        database: the database, which other processes may use meanwhile.
        target: the copy, in a folder that exists.

    Raises:
        DatabaseError: the database cannot be read or belongs to another program, or the copy
            cannot be written or is damaged. No copy is then left.
    """
    partial = target.with_suffix(".part")
    try:
        _remove_leftovers(target.parent)
        with replacing(target, partial, mode=PRIVATE):
            copy_online(database, partial)
            if found := problems(partial):
                raise DatabaseError(f"The copy of {database} is damaged: {found[0]}.")
            _require_own_database(partial, database)
            copy_permissions(partial, database)
    except (OSError, sqlite3.Error) as error:
        raise copy_error(database, target.parent, error) from error


def _require_own_database(copy: Path, database: Path) -> None:
    """Refuse a copy of another program's database, which would displace older backups of her2d."""
    try:
        schema_version(copy)
    except ForeignDatabase as error:
        raise foreign_database_error(database) from error


def copy_error(database: Path, folder: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """Return the error for a copy that could not be written to `folder`."""
    hint = f" {access_hint(folder)}" if isinstance(error, PermissionError) else ""
    return DatabaseError(f"{database} cannot be backed up to {folder}: {error}.{hint}")


def copy_online(database: Path, target: Path) -> None:
    """Copy a consistent state of `database` into one file, with SQLite's online backup.

    All pages are copied in one step, because a backup in several steps starts again whenever
    another process commits between two of them. With write-ahead logging this does not make the
    writer wait.

    Args:
        database: the database, which other processes may use meanwhile.
        target: the file to write.

    Raises:
        DatabaseError: the database does not exist, or this user may not read it.
        sqlite3.Error: the database cannot be read, or `target` cannot be written.
    """
    require_database(database)
    source = sqlite3.connect(readonly_uri(database), uri=True, timeout=_BUSY_TIMEOUT_S)
    copy = sqlite3.connect(target)
    deadline = time.monotonic() + _PATIENCE_S

    def stop_if_still_locked(status: int, *_: int) -> None:
        # Python repeats the step for as long as SQLite returns "busy".
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("it stayed locked by another process")

    try:
        source.backup(copy, pages=-1, progress=stop_if_still_locked)
        # A backup is one file, so it must not need a write-ahead log beside it.
        copy.execute("pragma journal_mode = delete")
    finally:
        copy.close()
        source.close()


def _remove_leftovers(folder: Path) -> None:
    """Delete unfinished copies of killed processes; younger ones may still be written."""
    oldest = time.time() - _LONGEST_COPY_S
    for path in folder.glob(_UNFINISHED):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
