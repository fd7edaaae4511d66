"""The one SQLite file: opening it, and bringing its schema up to date.

Tables and view are the design's. Connections stay in the thread that opened them. Write-ahead
logging lets readers read while the daemon writes (https://sqlite.org/wal.html).
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from sqlite_utils import Database

from her2d.errors import Her2dError
from her2d.system.ownership import belongs_with, who_may

_BUSY_TIMEOUT_S = 30.0
# In order. A database holds the number of those that were applied to it in its `user_version`.
_MIGRATIONS: tuple[Traversable, ...] = (
    resources.files("her2d.db") / "migrations" / "0001_initial.sql",
)

# What every schema has had: another program's file has a number of its own, but not these.
_TABLES = frozenset({"slides", "jobs", "runs", "tiles", "bundles", "events"})
_LOOK = """
    select (select user_version from pragma_user_version) as version,
        (select json_group_array(name) from sqlite_master
         where type = 'table' and name not like 'sqlite_%') as tables
"""


class DatabaseError(Her2dError):
    """The database cannot be used; `str(error)` says in one sentence why."""


class ForeignDatabase(DatabaseError):  # noqa: N818  reads as what it says
    """It is another program's, and must be left alone."""


class NewerDatabase(DatabaseError):  # noqa: N818  reads as what it says
    """A newer her2d wrote it."""


def newest_schema() -> int:
    """Return the number of the schema that this version of her2d uses."""
    return len(_MIGRATIONS)


def open_database(path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
    """Open for reading and writing, creating it as needed.

    An older schema is not brought up to date: `her2d.db.migrate` does that, after a copy.

    Args:
        path: the file.
        busy_timeout_s: how long a statement waits for another writer before it fails.

    Raises:
        DatabaseError: it cannot be opened, is not her2d's, or has another version's schema.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_there(path):
            path.touch()
            belongs_with(path, path.parent)
    except OSError as error:
        raise cannot_be_opened(path, error) from error
    with _opening(path, busy_timeout_s) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        if version != 0:
            _refuse_older(version, path)
        _set_up(db, is_new=version == 0)
        if version == 0:
            _bring_up_to_date(db)
    return db


def open_existing(path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
    """Open for reading and writing what must be there: a mistyped path makes no new database.

    Raises:
        DatabaseError: it is not there, or as `open_database` says.
    """
    require_there(path)
    return open_database(path, busy_timeout_s=busy_timeout_s)


def open_readonly(path: Path) -> Database:
    """Open for reading only, which never disturbs the daemon.

    Raises:
        DatabaseError: it is not there, is not her2d's, or has another version's schema.
    """
    require_there(path)
    with _opening(path, _BUSY_TIMEOUT_S, readonly=True) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        _refuse_older(version, path)
    return db


def schema_version(path: Path) -> int:
    """Migrations the database at `path` has behind it; 0 where there is none yet.

    Raises:
        ForeignDatabase: it is another program's.
        DatabaseError: it is no SQLite database, or cannot be opened.
    """
    if not _is_there(path):
        return 0
    with _opening(path, _BUSY_TIMEOUT_S, readonly=True) as db:
        version = _schema_of(db, path)
    db.close()
    return version


def known_schema_version(path: Path) -> int:
    """`schema_version`, where this her2d can use the database or bring it up to date.

    Raises:
        NewerDatabase: a newer her2d wrote it.
        DatabaseError: as `schema_version` says.
    """
    version = schema_version(path)
    _refuse_newer(version, path)
    return version


def bring_up_to_date(path: Path) -> None:
    """Migrate the database that is at `path`, in one transaction: all of it, or nothing.

    Raises:
        DatabaseError: it cannot be opened, is not her2d's or a newer one's, or will not be
            migrated; then it is as it was.
    """
    with _opening(path, _BUSY_TIMEOUT_S) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        db.execute("pragma foreign_keys = on")
        try:
            _bring_up_to_date(db)
        except sqlite3.Error as error:
            raise DatabaseError(
                f"The database {path} cannot be brought from schema {version} to {newest_schema()}:"
                f" {error}. It is as it was, and the her2d that wrote it can go on with it."
            ) from error
    db.close()


def require_there(path: Path) -> None:
    """Raise DatabaseError unless there is a file."""
    if not _is_there(path):
        raise DatabaseError(f"There is no database {path} yet; her2d run or her2d scan makes it.")


@contextmanager
def _opening(path: Path, busy_timeout_s: float, *, readonly: bool = False) -> Iterator[Database]:
    """A connection that stays open unless the block raises; SQLite's errors are ours."""
    try:
        uri = f"{path.resolve().as_uri()}?mode={'ro' if readonly else 'rw'}"
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s)
        try:
            yield Database(connection)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_opened(path, error) from error


def _is_there(path: Path) -> bool:
    try:
        if path.is_dir():
            raise DatabaseError(
                f"{path} is a folder, not a database; [results] database must name a file."
            )
        return path.is_file()
    except OSError as error:
        raise cannot_be_opened(path, error) from error


def cannot_be_opened(path: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """What to raise where `path` was refused, with whom to run the command as if that is why."""
    sentence = f"The database {path} cannot be opened: {error}."
    if _is_closed_to_us(path):
        return DatabaseError(f"{sentence} {who_may(path)}")
    return DatabaseError(sentence)


def another_programs(path: Path) -> ForeignDatabase:
    """What to raise where the database at `path` is not her2d's."""
    return ForeignDatabase(
        f"{path} is a database, but not her2d's; [results] database names the wrong file."
    )


def _is_closed_to_us(path: Path) -> bool:
    """SQLite says only that it is unable to, and it also writes beside the file."""
    try:
        place = path if path.exists() else path.parent
    except PermissionError:
        return True
    return place.exists() and not (
        os.access(place, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    )


def _set_up(db: Database, *, is_new: bool) -> None:
    db.execute("pragma foreign_keys = on")
    if is_new:
        # Must come before all else. `her2d db vacuum` has older databases follow.
        db.execute("pragma auto_vacuum = incremental")
    db.enable_wal()
    # A result that was reported must survive a power cut right after.
    db.execute("pragma synchronous = full")


def _bring_up_to_date(db: Database) -> None:
    # Two processes may open a new file at once: only one may find it old.
    db.execute("begin immediate")
    try:
        version = int(db.execute("pragma user_version").fetchone()[0])
        for migration in _MIGRATIONS[version:]:
            for statement in _statements(migration.read_text()):
                db.execute(statement)
        db.execute(f"pragma user_version = {newest_schema()}")
        db.execute("commit")
    except BaseException:
        db.rollback()
        raise


def _schema_of(db: Database, path: Path) -> int:
    """Raises ForeignDatabase. One statement sees one moment, though others may create it now."""
    version, tables = db.execute(_LOOK).fetchone()
    found = set(json.loads(tables))
    if not found >= _TABLES and (found or version):
        raise another_programs(path)
    return int(version) if found else 0


def _refuse_newer(version: int, path: Path) -> None:
    if version > newest_schema():
        raise NewerDatabase(
            f"The database {path} was written by a newer her2d (schema {version}; this one knows"
            f" {newest_schema()}). Install that version again."
        )


def _refuse_older(version: int, path: Path) -> None:
    if version < newest_schema():
        raise DatabaseError(
            f"The database {path} is of an older her2d; her2d run, or her2d db migrate, updates it"
            " after a copy."
        )


def _statements(script: str) -> list[str]:
    """Split at the semicolons that end statements; `executescript` would commit on its own."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
