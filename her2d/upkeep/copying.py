"""One whole file out of a database that others write to."""

import os
import sqlite3
import time
from pathlib import Path

from her2d.database import DatabaseError
from her2d.ownership import who_may

_PATIENCE_S = 300.0
_BUSY_TIMEOUT_S = 5.0


def copy_online(database: Path, target: Path) -> None:
    """Copy a consistent moment of `database` by SQLite's online backup, as one file.

    In one step, since a backup of several begins anew whenever somebody commits between two of
    them. It keeps nobody waiting: with write-ahead logging, readers never block the writer.

    Raises:
        DatabaseError: there is no such database, or it is closed to us.
        sqlite3.Error: it cannot be read, or `target` cannot be written.
    """
    try:
        there = database.is_file()
    except PermissionError as error:
        raise DatabaseError(f"{database} cannot be read: {error}. {who_may(database)}") from error
    if not there:
        raise DatabaseError(f"There is no database {database}.")
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


def to_disk(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
