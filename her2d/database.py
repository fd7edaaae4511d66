"""The one SQLite file: opening it, and bringing its schema up to date.

Tables and view are the design's. Connections stay in the thread that opened them. Write-ahead
logging lets readers read while the daemon writes (https://sqlite.org/wal.html).
"""

import os
import sqlite3
from importlib import resources
from pathlib import Path

from sqlite_utils import Database

from her2d.ownership import belongs_with, who_may

_BUSY_TIMEOUT_S = 30.0
_MIGRATIONS = (
    "0001_initial.sql",
    "0002_webhook.sql",
    "0003_intake.sql",
    "0004_quality_and_views.sql",
    "0005_saturation.sql",
    "0006_webhook_aside.sql",
)
NEWEST_SCHEMA = len(_MIGRATIONS)


class DatabaseError(Exception):
    """The database cannot be used; `str(error)` says in one sentence why."""


def open_database(path: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
    """Open for reading and writing, creating and migrating as needed.

    Args:
        path: the file.
        busy_timeout_s: how long a statement waits for another writer before it fails.

    Raises:
        DatabaseError: it cannot be opened, is no SQLite database, or was written by a newer her2d.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
            belongs_with(path, path.parent)
        db = Database(sqlite3.connect(path, timeout=busy_timeout_s))
        db.execute("pragma foreign_keys = on")
        if not db.table_names():
            # Must come before all else. `her2d db vacuum` has older databases follow.
            db.execute("pragma auto_vacuum = incremental")
        db.enable_wal()
        # A result that was reported must survive a power cut right after.
        db.execute("pragma synchronous = full")
        _migrate(db, path)
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_opened(path, error) from error
    return db


def open_readonly(path: Path) -> Database:
    """Open for reading only, which never disturbs the daemon.

    Raises:
        DatabaseError: it is not there, is no SQLite database, or has another version's schema.
    """
    try:
        if not path.is_file():
            raise DatabaseError(
                f"There is no database {path} yet; her2d run or her2d scan makes it."
            )
        uri = f"{path.resolve().as_uri()}?mode=ro"
        db = Database(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S))
        version = _version(db)
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_opened(path, error) from error
    if version < NEWEST_SCHEMA:
        raise DatabaseError(f"The database {path} is of an older her2d; her2d run updates it.")
    _refuse_newer(version, path)
    return db


def schema_version(path: Path) -> int:
    """Migrations the database at `path` has behind it; 0 where there is none yet.

    Raises:
        DatabaseError: it is no SQLite database.
    """
    try:
        if not path.is_file():
            return 0
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return _version(Database(connection))
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise cannot_be_opened(path, error) from error


def cannot_be_opened(path: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """What to raise where `path` was refused, with whom to run the command as if that is why."""
    sentence = f"The database {path} cannot be opened: {error}."
    if _is_closed_to_us(path):
        return DatabaseError(f"{sentence} {who_may(path)}")
    return DatabaseError(sentence)


def _is_closed_to_us(path: Path) -> bool:
    """SQLite says only that it is unable to, and it also writes beside the file."""
    try:
        place = path if path.exists() else path.parent
    except PermissionError:
        return True
    return place.exists() and not (
        os.access(place, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    )


def _migrate(db: Database, path: Path) -> None:
    version = _version(db)
    _refuse_newer(version, path)
    for number, name in enumerate(_MIGRATIONS[version:], start=version + 1):
        script = resources.files("her2d").joinpath("migrations", name).read_text()
        # Two processes may open a new file at once: only one may find it old.
        db.execute("begin immediate")
        try:
            if _version(db) < number:
                for statement in _statements(script):
                    db.execute(statement)
                db.execute(f"pragma user_version = {number}")
            db.execute("commit")
        except BaseException:
            db.rollback()
            raise


def _version(db: Database) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


def _refuse_newer(version: int, path: Path) -> None:
    if version > NEWEST_SCHEMA:
        raise DatabaseError(
            f"The database {path} was written by a newer her2d (schema {version}; this one knows"
            f" {NEWEST_SCHEMA}). Install that version again."
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
