"""Replace the database with a backup.

Copying the file over the database can damage it: SQLite applies the old database's write-ahead log
to the copy (https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in
use" and "Mispairing database files and hot journals").
"""

import os
import sqlite3
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from sqlite_utils import Database

from her2d.db.acts import record_act
from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    UnreleasedDatabase,
    known_schema_version,
    newest_schema,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.db.lock import hold_daemon_lock, hold_database
from her2d.db.online_copy import copy_online, file_timestamp
from her2d.system.files import flush_file, flush_folder
from her2d.system.ownership import copy_owner, copy_permissions

_BUSY_TIMEOUT_S = 5.0


def restore(backup: Path, database: Path, actor: str | None = None) -> Path | None:
    """Replace `database` with a copy of `backup`, and keep the old database under a dated name.

    At every moment, also after a crash, either the old or the new database is in place, complete.

    Args:
        backup: a database that `her2d db backup` made.
        database: the database to replace or to create.
        actor: the user and the command, which the restored database records; None for a program.

    Returns:
        The old database's new name, or None if there was no database.

    Raises:
        AlreadyRunningError: a daemon uses the database.
        DatabaseError: the backup is damaged, belongs to another program or a newer version of
            her2d, the database belongs to another program or is open in another process, or the
            disk refused. The database is then unchanged.
    """
    place = database.resolve()
    _refuse_foreign(database)
    copy = place.with_name(f"{place.name}.restoring")
    try:
        with hold_daemon_lock(database), _held(place):
            try:
                _remove(copy)
                copy_online(backup, copy)
                _require_usable(copy, backup)
                if actor is not None:
                    _record(copy, backup, actor)
                _copy_access(copy, place)
                flush_file(copy)
                aside = _set_aside(place)
                copy.replace(place)
                flush_folder(place.parent)
            finally:
                _remove(copy)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"{database} cannot be restored from {backup}: {error}.") from error
    return aside


def _held(place: Path) -> AbstractContextManager[object]:
    """Hold the lock on the database, if there is one."""
    return hold_database(place) if place.exists() else nullcontext()


def _refuse_foreign(database: Path) -> None:
    """Raise ForeignDatabase if the database belongs to another program.

    A damaged database may be her2d's, and is not refused.
    """
    try:
        schema_version(database)
    except ForeignDatabase:
        raise
    except DatabaseError:
        return


def _require_usable(copy: Path, backup: Path) -> None:
    if found := problems(copy):
        raise DatabaseError(f"{backup} is damaged, so nothing was restored: {found[0]}.")
    try:
        version = schema_version(copy)
    except ForeignDatabase:
        version = 0
    if version == 0:
        raise DatabaseError(f"{backup} is not a database of her2d, so nothing was restored.")
    if version > newest_schema():
        raise DatabaseError(
            f"{backup} was written by a newer version of her2d (schema {version}; this version"
            f" supports {newest_schema()}), so nothing was restored. Install the newer"
            " version first."
        )
    try:
        known_schema_version(copy)
    except UnreleasedDatabase as error:
        raise DatabaseError(
            f"{backup} was written by an unreleased version of her2d, so nothing was restored."
        ) from error


def _record(copy: Path, backup: Path, actor: str) -> None:
    """Record the restoring in the copy, which nobody uses yet."""
    with closing(Database(copy, execute_plugins=False)) as db:
        record_act(db, "restored", f"From {backup}.", actor)


def _copy_access(copy: Path, place: Path) -> None:
    """Give the copy the owner and permissions of the database."""
    if place.exists():
        copy_permissions(copy, place)
    else:
        copy_owner(copy, place.parent)


def _set_aside(place: Path) -> Path | None:
    """Give the database a second name, and remove the log that SQLite would apply to the copy."""
    log, index = (place.with_name(place.name + suffix) for suffix in ("-wal", "-shm"))
    if not place.exists():
        log.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
        return None
    aside = place.with_name(f"{place.stem}.before-restore-{file_timestamp()}{place.suffix}")
    merged = _merge_log(place)
    os.link(place, aside)
    if not merged and log.exists():
        log.rename(aside.with_name(aside.name + "-wal"))
    index.unlink(missing_ok=True)
    return aside


def _merge_log(place: Path) -> bool:
    """Write the log's content to the database; return False if the database is too damaged.

    Raises:
        DatabaseError: another process has the database open, and would write to the old file.
    """
    with closing(sqlite3.connect(place, timeout=_BUSY_TIMEOUT_S)) as connection:
        try:
            connection.execute("pragma journal_mode = delete").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise DatabaseError(
                    f"Another process has {place} open, so nothing was restored. Stop it"
                    " first. It may be her2d browse, her2d scan or sqlite3."
                ) from error
            return False
    return True


def _remove(copy: Path) -> None:
    for suffix in ("", "-journal"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
