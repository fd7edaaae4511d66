"""Disk space that deleted rows took, given back while others go on writing.

SQLite keeps the pages of deleted rows for new ones (https://sqlite.org/lang_vacuum.html). A
database with incremental vacuum gives them back a few at a time; one that was made before her2d
had that must be rewritten once.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from sqlite_utils import Database

from her2d.db.connection import DatabaseError, open_existing

_INCREMENTAL = 2
_PAGES_AT_ONCE = 2048  # 8 MiB: a fraction of a second without other writers
_BREATH_S = 0.05
_BUSY_TIMEOUT_S = 60.0
_CHECKPOINT_MS = 1000
_MARGIN_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """The database file before and after, in bytes."""

    before: int
    after: int


def give_back(db: Database) -> int:
    """Give free pages back to the disk in short steps; returns the bytes that stay in the file.

    Those are free for new rows; they are many only where the database has no incremental vacuum.

    Raises:
        DatabaseError: another process kept the database locked.
    """
    try:
        if _number(db, "auto_vacuum") == _INCREMENTAL:
            free = _number(db, "freelist_count")
            while free > 0:
                # Not `execute`: that stops a statement without columns after its first page.
                db.conn.executescript(f"pragma incremental_vacuum({_PAGES_AT_ONCE})")
                left = _number(db, "freelist_count")
                if left >= free:
                    break
                free = left
                time.sleep(_BREATH_S)
            _shorten(db)
        return _number(db, "freelist_count") * _number(db, "page_size")
    except sqlite3.Error as error:
        raise DatabaseError(f"Free space could not be given back: {error}.") from error


def vacuum(database: Path) -> Sizes:
    """Rewrite the whole file without its free pages, and have `give_back` work from then on.

    Others can read meanwhile, and wait if they want to write.

    Raises:
        DatabaseError: there is none, there is no room for the copies it takes, or another process
            kept it locked.
    """
    with closing(open_existing(database, busy_timeout_s=_BUSY_TIMEOUT_S)) as db:
        try:
            _require_room(db, database)
            _shorten(db)
            before = database.stat().st_size
            db.execute(f"pragma auto_vacuum = {_INCREMENTAL}")
            db.execute("vacuum")
            _shorten(db)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(f"{database} cannot be vacuumed: {error}.") from error
        return Sizes(before, database.stat().st_size)


def _require_room(db: Database, database: Path) -> None:
    """SQLite writes what is kept twice: to its temporary folder, and to the write-ahead log."""
    kept = (_number(db, "page_count") - _number(db, "freelist_count")) * _number(db, "page_size")
    needed: dict[int, tuple[Path, int]] = {}
    for folder in (database.resolve().parent, _temporary_folder()):
        device = folder.stat().st_dev
        needed[device] = folder, needed.get(device, (folder, _MARGIN_BYTES))[1] + kept
    for folder, bytes_ in needed.values():
        free = disk_usage(folder).free
        if free < bytes_:
            raise DatabaseError(
                f"There is no room to vacuum {database}: it takes {bytes_ / 1e6:.0f} MB"
                f" in {folder}, and {free / 1e6:.0f} MB are free."
            )


def _temporary_folder() -> Path:
    """Where SQLite puts its temporary files: https://sqlite.org/tempfiles.html, section 5."""
    return next(
        folder for folder in _temporary_folders() if folder.is_dir() and os.access(folder, os.W_OK)
    )


def _temporary_folders() -> Iterator[Path]:
    for variable in ("SQLITE_TMPDIR", "TMPDIR"):
        if named := os.environ.get(variable):
            yield Path(named)
    yield from (Path("/var/tmp"), Path("/usr/tmp"), Path("/tmp"), Path())


def _shorten(db: Database) -> None:
    """Bring the write-ahead log into the file and cut both to length, unless readers forbid it.

    Writers wait as long as this does, so it does not wait long: the next checkpoint does the rest.
    """
    patience = _number(db, "busy_timeout")
    db.execute(f"pragma busy_timeout = {_CHECKPOINT_MS}")
    try:
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        db.execute(f"pragma busy_timeout = {patience}")


def _number(db: Database, pragma: str) -> int:
    return int(db.execute(f"pragma {pragma}").fetchone()[0])
