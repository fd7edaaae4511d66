"""Open the SQLite database and migrate its schema.

A connection is used only by the thread that opened it. Write-ahead logging lets other processes
read while the daemon writes (https://sqlite.org/wal.html).
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from sqlite_utils import Database

from her2d.db.write_ahead_log import log_of
from her2d.errors import Her2dError
from her2d.system.files import create_file, make_folder
from her2d.system.ownership import access_hint, copy_owner
from her2d.system.write_transaction import write_transaction

_BUSY_TIMEOUT_S = 30.0
# In order. A database holds the number of those that were applied to it in its `user_version`.
_MIGRATIONS: tuple[Traversable, ...] = (
    resources.files("her2d.db") / "migrations" / "0001_initial.sql",
)

# Every schema of her2d has these tables. The file of another program may have the same
# `user_version`, but not these tables.
_TABLES = frozenset({"slides", "jobs", "runs", "tiles", "bundles", "events"})
_UNCHANGING = "&immutable=1"
_STEPS_BETWEEN_CHECKS = 100
_STEPS_BETWEEN_INTERRUPTS = 10_000  # a few milliseconds
_COMMENT, _SPACE = re.compile("--[^\\n]*"), re.compile(r"\s+")
_LOOK = """
    select (select user_version from pragma_user_version) as version,
        (select json_group_array(name) from sqlite_master
         where type = 'table' and name not like 'sqlite_%') as tables
"""


class DatabaseError(Her2dError):
    """The database cannot be used; `str(error)` is one sentence that says why."""


class ForeignDatabase(DatabaseError):  # noqa: N818  reads as what it says
    """The database belongs to another program and must not be changed."""


class NewerDatabase(DatabaseError):  # noqa: N818  reads as what it says
    """A newer version of her2d wrote the database."""


class UnreleasedDatabase(DatabaseError):  # noqa: N818  reads as what it says
    """An unreleased version of her2d wrote the database, and no migration can update it."""


def newest_schema() -> int:
    """Return the number of the schema that this version of her2d uses."""
    return len(_MIGRATIONS)


def open_database(path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
    """Open the database for reading and writing, and create it if it does not exist.

    An older schema is an error here: only `her2d.db.migrate` migrates, because it first makes a
    copy.

    Args:
        path: the database file.
        busy_timeout_s: seconds that a statement waits for another writer before it fails.

    Returns:
        The connection, which the caller closes.

    Raises:
        DatabaseError: the file cannot be opened, is not a database of her2d, or has the schema of
            another version.
    """
    create_if_missing(path)
    with _opening(path, busy_timeout_s) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        if version != 0:
            _refuse_older(version, path)
            _refuse_other_columns(db, path)
        _set_up(db, is_new=version == 0)
        if version == 0:
            _migrate(db)
    return db


def create_if_missing(path: Path) -> None:
    """Create an empty file for the database, and its folder, if there is none.

    Only its owner and group may read it. A process of root gives it to the folder's owner.

    Raises:
        DatabaseError: it cannot be created, or `path` is a link to a file that does not exist.
    """
    try:
        if _is_there(path):
            return
        make_folder(path.parent)
        descriptor = create_file(path)
    except FileExistsError as error:
        if path.is_file():
            return  # another process has just created it
        raise open_error(path, error) from error
    except OSError as error:
        raise open_error(path, error) from error
    try:
        copy_owner(descriptor, path.parent)
    except OSError as error:
        raise open_error(path, error) from error
    finally:
        os.close(descriptor)


def open_existing(path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
    """Open a database that must exist, so that a mistyped path does not create a new one.

    Args:
        path: the database file.
        busy_timeout_s: as for `open_database`.

    Returns:
        The connection, which the caller closes.

    Raises:
        DatabaseError: the file does not exist, or as for `open_database`.
    """
    require_database(path)
    return open_database(path, busy_timeout_s=busy_timeout_s)


@contextmanager
def changing(path: Path) -> Iterator[Database]:
    """Open a database that must exist, for the changes of a command, and close it.

    Raises:
        DatabaseError: as for `open_existing`, or a statement of the block failed.
    """
    with closing(open_existing(path)) as db:
        try:
            yield db
        except sqlite3.Error as error:
            raise DatabaseError(f"The database {path} cannot be changed: {error}.") from error


def open_readonly(
    path: Path,
    *,
    busy_timeout_s: float = _BUSY_TIMEOUT_S,
    interrupt_if: Callable[[], bool] | None = None,
) -> Database:
    """Open the database for reading only, which never makes the daemon wait.

    A group that may read the file can also do that while the daemon is stopped: see `readonly_uri`.

    Args:
        path: the database file.
        busy_timeout_s: as for `open_database`.
        interrupt_if: called often during queries, which are interrupted once it returns True.

    Returns:
        The connection, which the caller closes. If the daemon starts meanwhile, its next query may
        be interrupted, and it must be opened again.

    Raises:
        DatabaseError: the file does not exist, is not a database of her2d, or has the schema of
            another version.
    """
    require_database(path)
    with _opening(path, busy_timeout_s, readonly=True, interrupt_if=interrupt_if) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        _refuse_older(version, path)
        _refuse_other_columns(db, path)
    return db


def leave_readable(path: Path) -> None:
    """Leave an empty write-ahead log beside a database that every program has closed.

    SQLite needs it to read, and the last program that could write has deleted it. Those that may
    only read cannot create it. Raises DatabaseError.
    """
    schema_version(path)


def readonly_uri(path: Path) -> str:
    """Return SQLite's address of a database for reading only.

    Without a log, and without the right to create one, SQLite can read a database only if it is
    told that the file does not change (https://sqlite.org/wal.html, section 5, "Read-only
    databases"). That is so where no program has it open, since the first one creates the log.
    """
    place = path.resolve()
    is_still = not log_of(place).exists() and not os.access(
        place.parent, os.W_OK, effective_ids=True
    )
    return f"{place.as_uri()}?mode=ro{_UNCHANGING if is_still else ''}"


def schema_version(path: Path) -> int:
    """Return how many migrations were applied to the database; 0 if it does not exist yet.

    Raises:
        ForeignDatabase: the database belongs to another program.
        DatabaseError: the file is not an SQLite database, or cannot be opened.
    """
    if not _is_there(path):
        return 0
    with _opening(path, _BUSY_TIMEOUT_S, readonly=True) as db:
        version = _schema_of(db, path)
    db.close()
    return version


def known_schema_version(path: Path) -> int:
    """Return `schema_version` of a database that this version of her2d can use or migrate.

    Raises:
        NewerDatabase: a newer version of her2d wrote the database.
        UnreleasedDatabase: an unreleased one wrote it.
        DatabaseError: as for `schema_version`.
    """
    version = schema_version(path)
    _refuse_newer(version, path)
    if version == newest_schema():
        open_readonly(path).close()
    return version


def apply_migrations(path: Path) -> None:
    """Apply the missing migrations to an existing database in one transaction.

    Raises:
        DatabaseError: the database cannot be opened, belongs to another program or a newer
            version, or a migration failed. The database is then unchanged.
    """
    with _opening(path, _BUSY_TIMEOUT_S) as db:
        version = _schema_of(db, path)
        _refuse_newer(version, path)
        db.execute("pragma foreign_keys = on")
        try:
            _migrate(db)
        except sqlite3.Error as error:
            raise DatabaseError(
                f"The database {path} cannot be migrated from schema {version} to"
                f" {newest_schema()}: {error}. It is unchanged; the version of her2d that"
                " wrote it can still use it."
            ) from error
    db.close()


def require_database(path: Path) -> None:
    """Check that the database file exists.

    Raises:
        DatabaseError: it does not exist.
    """
    if not _is_there(path):
        raise DatabaseError(f"There is no database {path} yet. her2d run and her2d scan create it.")


def _interrupt(
    connection: sqlite3.Connection, interrupt_if: Callable[[], bool] | None, log: Path | None
) -> None:
    """Interrupt queries once `interrupt_if` returns True, or `log` exists."""
    if log is not None:
        connection.set_progress_handler(
            lambda: log.exists() or (interrupt_if is not None and interrupt_if()),
            _STEPS_BETWEEN_CHECKS,
        )
    elif interrupt_if is not None:
        connection.set_progress_handler(interrupt_if, _STEPS_BETWEEN_INTERRUPTS)


@contextmanager
def _opening(
    path: Path,
    busy_timeout_s: float,
    *,
    readonly: bool = False,
    interrupt_if: Callable[[], bool] | None = None,
) -> Iterator[Database]:
    """Yield a connection, which is closed only if the block fails; translate SQLite's errors.

    A database that was said not to change also interrupts queries: once a program writes to it.
    """
    try:
        uri = readonly_uri(path) if readonly else f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s)
        try:
            _interrupt(
                connection, interrupt_if, log_of(path) if uri.endswith(_UNCHANGING) else None
            )
            yield Database(connection, execute_plugins=False)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise open_error(path, error) from error


def _is_there(path: Path) -> bool:
    try:
        if path.is_dir():
            raise DatabaseError(f"{path} is a folder. [results] database must name a file.")
        return path.is_file()
    except OSError as error:
        raise open_error(path, error) from error


def open_error(path: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """Return the error for a database that could not be opened.

    If permissions are the cause, the sentence says as which user to run the command.
    """
    sentence = f"The database {path} cannot be opened: {error}."
    if _lacks_permission(path):
        return DatabaseError(f"{sentence} {access_hint(path)}")
    return DatabaseError(sentence)


def foreign_database_error(path: Path) -> ForeignDatabase:
    """Return the error for a database that belongs to another program."""
    return ForeignDatabase(f"{path} is the database of another program. Change [results] database.")


def _lacks_permission(path: Path) -> bool:
    """Return whether permissions keep this process from the file or its folder.

    SQLite reports no cause, and it also creates files beside the database.
    """
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
        # Must be the first statement. `her2d db vacuum` sets it for databases that lack it.
        db.execute("pragma auto_vacuum = incremental")
    db.enable_wal()
    # A result that was reported must survive a power cut immediately afterwards.
    db.execute("pragma synchronous = full")


def _migrate(db: Database) -> None:
    # Two processes may open a new file at the same time; only one may migrate it.
    with write_transaction(db):
        version = int(db.execute("pragma user_version").fetchone()[0])
        for migration in _MIGRATIONS[version:]:
            for statement in _statements(migration.read_text()):
                db.execute(statement)
        db.execute(f"pragma user_version = {newest_schema()}")


def _schema_of(db: Database, path: Path) -> int:
    """Return the schema's number, read in one statement because others may create it meanwhile.

    Raises:
        ForeignDatabase: the database belongs to another program.
    """
    version, tables = db.execute(_LOOK).fetchone()
    found = set(json.loads(tables))
    if not found >= _TABLES and (found or version):
        raise foreign_database_error(path)
    return int(version) if found else 0


def _refuse_newer(version: int, path: Path) -> None:
    if version > newest_schema():
        raise NewerDatabase(
            f"The database {path} was written by a newer version of her2d (schema {version}; this"
            f" version supports {newest_schema()}). Install the newer version."
        )


def _refuse_older(version: int, path: Path) -> None:
    if version < newest_schema():
        raise DatabaseError(
            f"The database {path} was written by an older version of her2d. her2d run and her2d db"
            " migrate make a copy and update it."
        )


def _refuse_other_columns(db: Database, path: Path) -> None:
    """Raise DatabaseError if the schema is not the one that its number stands for.

    That happens between releases, when the newest schema still changes without a new number.
    """
    found = _definitions(db)
    expected = _definitions_by(_MIGRATIONS)
    other = [name for name, sql in expected.items() if found.get(name) != sql]
    if other:
        raise UnreleasedDatabase(
            f"The database {path} was written by an unreleased version of her2d, whose {other[0]}"
            " differs. It cannot be updated. Move it away: her2d creates a new one and scores the"
            " scans in the inboxes again."
        )


@cache
def _definitions_by(migrations: tuple[Traversable, ...]) -> Mapping[str, str]:
    """Return what `_definitions` finds in a database that `migrations` have just created."""
    db = Database(memory=True, execute_plugins=False)
    for migration in migrations:
        for statement in _statements(migration.read_text()):
            db.execute(statement)
    expected = _definitions(db)
    db.close()
    return expected


def _definitions(db: Database) -> dict[str, str]:
    """Return the SQL of each table, view, index and trigger without comments and spaces."""
    rows = db.execute("select type || ' ' || name, sql from sqlite_master where sql is not null")
    return {name: _SPACE.sub("", _COMMENT.sub("", sql)) for name, sql in rows.fetchall()}


def _statements(script: str) -> list[str]:
    """Split at the semicolons that end statements, because `executescript` would commit."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
