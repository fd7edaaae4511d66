"""One whole file out of a database that others write to."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    another_programs,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.system.files import replacing
from her2d.system.ownership import as_closed_as, who_may

_PATIENCE_S = 300.0
_LONGEST_COPY_S = 86_400.0
_UNFINISHED = f"*-{'[0-9]' * 8}T{'[0-9]' * 12}Z.part*"  # `moment`, and SQLite's journal beside it
_BUSY_TIMEOUT_S = 5.0


def moment() -> str:
    """The time as names of copies have it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def keep_copy(database: Path, target: Path) -> None:
    """Copy the database to `target`, whole, checked and for the same people, or not at all.

    Raises:
        DatabaseError: it cannot be read or is not her2d's, the copy cannot be written or is not
            sound.
    """
    partial = target.with_suffix(".part")
    try:
        _remove_leftovers(target.parent)
        with replacing(target, partial):
            copy_online(database, partial)
            if found := problems(partial):
                raise DatabaseError(f"The copy of {database} is not sound: {found[0]}.")
            _require_her2ds(partial, database)
            as_closed_as(partial, database)
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_copied(database, target.parent, error) from error


def _require_her2ds(copy: Path, database: Path) -> None:
    """Backups of another program's, night after night, would push the real ones out."""
    try:
        schema_version(copy)
    except ForeignDatabase as error:
        raise another_programs(database) from error


def cannot_be_copied(database: Path, folder: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """What to raise where `folder` refused a copy of the database."""
    hint = f" {who_may(folder)}" if isinstance(error, PermissionError) else ""
    return DatabaseError(f"{database} cannot be backed up to {folder}: {error}.{hint}")


def copy_online(database: Path, target: Path) -> None:
    """Copy a consistent moment of `database` by SQLite's online backup, as one file.

    In one step, since a backup of several begins anew whenever somebody commits between two of
    them. It keeps nobody waiting: with write-ahead logging, readers never block the writer.

    Raises:
        DatabaseError: there is no such database, or it is closed to us.
        sqlite3.Error: it cannot be read, or `target` cannot be written.
    """
    require_database(database)
    source = sqlite3.connect(
        f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S
    )
    copy = sqlite3.connect(target)
    deadline = time.monotonic() + _PATIENCE_S

    def give_up_what_stays_locked(status: int, *_: int) -> None:
        # Python's loop goes on for as long as SQLite says "busy".
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("it stayed locked by another process")

    try:
        source.backup(copy, pages=-1, progress=give_up_what_stays_locked)
        # A backup is one file: it must not need a log beside it.
        copy.execute("pragma journal_mode = delete")
    finally:
        copy.close()
        source.close()


def require_database(database: Path) -> None:
    """Raise DatabaseError unless it is there, and not closed to us."""
    try:
        there = database.is_file()
    except PermissionError as error:
        raise DatabaseError(f"{database} cannot be read: {error}. {who_may(database)}") from error
    if not there:
        raise DatabaseError(f"There is no database {database}.")


def _remove_leftovers(folder: Path) -> None:
    """Delete what copies that were killed left; younger ones may still be written."""
    oldest = time.time() - _LONGEST_COPY_S
    for path in folder.glob(_UNFINISHED):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
