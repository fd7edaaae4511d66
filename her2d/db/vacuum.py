"""Return the disk space of deleted rows while other processes write.

SQLite keeps the pages of deleted rows for new rows (https://sqlite.org/lang_vacuum.html). A
database with incremental vacuum can return a few pages at a time. One without it, such as a
database that another tool rewrote, must be rewritten once.
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
from her2d.db.write_ahead_log import cut_log

_INCREMENTAL = 2
_PAGES_AT_ONCE = 2048  # 8 MiB: a fraction of a second without other writers
_PAUSE_S = 0.05
_BUSY_TIMEOUT_S = 60.0
_MARGIN_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of the database file before and after, in bytes."""

    before: int
    after: int


def return_free_pages(db: Database) -> int:
    """Return free pages to the disk in short steps.

    Returns:
        The bytes of free pages that stay in the file for new rows. They are many only if the
        database has no incremental vacuum.

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
                time.sleep(_PAUSE_S)
            cut_log(db)
        return _number(db, "freelist_count") * _number(db, "page_size")
    except sqlite3.Error as error:
        raise DatabaseError(f"Free space could not be returned to the disk: {error}.") from error


def vacuum(database: Path) -> Sizes:
    """Rewrite the file without its free pages, and turn on incremental vacuum.

    Other processes can read meanwhile, but must wait to write.

    Returns:
        The file's size before and after.

    Raises:
        DatabaseError: the database does not exist, the disk has no room for the copies that SQLite
            makes, or another process kept the database locked.
    """
    with closing(open_existing(database, busy_timeout_s=_BUSY_TIMEOUT_S)) as db:
        try:
            _require_room(db, database)
            cut_log(db)
            before = database.stat().st_size
            db.execute(f"pragma auto_vacuum = {_INCREMENTAL}")
            db.execute("vacuum")
            cut_log(db)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(f"{database} cannot be vacuumed: {error}.") from error
        return Sizes(before, database.stat().st_size)


def _require_room(db: Database, database: Path) -> None:
    """Check the room for SQLite's two copies: in its temporary folder and in the log."""
    kept = (_number(db, "page_count") - _number(db, "freelist_count")) * _number(db, "page_size")
    needed: dict[int, tuple[Path, int]] = {}
    for folder in (database.resolve().parent, _temporary_folder()):
        device = folder.stat().st_dev
        needed[device] = folder, needed.get(device, (folder, _MARGIN_BYTES))[1] + kept
    for folder, bytes_ in needed.values():
        free = disk_usage(folder).free
        if free < bytes_:
            raise DatabaseError(
                f"Cannot vacuum {database}: it needs {bytes_ / 1e6:.0f} MB in {folder}, where"
                f" {free / 1e6:.0f} MB are free. Free disk space there."
            )


def _temporary_folder() -> Path:
    """Return SQLite's folder for temporary files (https://sqlite.org/tempfiles.html, section 5)."""
    return next(
        folder for folder in _temporary_folders() if folder.is_dir() and os.access(folder, os.W_OK)
    )


def _temporary_folders() -> Iterator[Path]:
    for variable in ("SQLITE_TMPDIR", "TMPDIR"):
        if named := os.environ.get(variable):
            yield Path(named)
    yield from (Path("/var/tmp"), Path("/usr/tmp"), Path("/tmp"), Path())


def _number(db: Database, pragma: str) -> int:
    return int(db.execute(f"pragma {pragma}").fetchone()[0])
