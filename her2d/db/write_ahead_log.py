"""The write-ahead log, a file beside the database that holds its newest changes.

SQLite writes the log's content back to the database now and then, and never makes the log shorter
by itself (https://sqlite.org/wal.html, section 6). What is only in the log is lost with it.
"""

from pathlib import Path

from sqlite_utils import Database

_PATIENCE_MS = 1000


def log_of(database: Path) -> Path:
    """Return the path of the database's write-ahead log, beside the file and not beside a link."""
    place = database.resolve()
    return place.with_name(f"{place.name}-wal")


def log_bytes(database: Path) -> int:
    """Return the log's size in bytes; 0 if there is none. Raises OSError."""
    try:
        return log_of(database).stat().st_size
    except FileNotFoundError:
        return 0


def write_back(db: Database) -> None:
    """Write the log's content to the database file, without waiting for other connections.

    What a reader still needs stays in the log. Raises sqlite3.Error.
    """
    db.execute("pragma wal_checkpoint(passive)").fetchall()


def cut_log(db: Database, *, patience_ms: int = _PATIENCE_MS) -> bool:
    """Write the log's content to the database file and truncate the log, unless it is being read.

    Args:
        db: a connection without a transaction.
        patience_ms: how long to wait for readers. Writers must wait meanwhile.

    Returns:
        Whether the log is empty now; a later call does the rest.

    Raises:
        sqlite3.Error: the disk refused.
    """
    timeout_ms = int(db.execute("pragma busy_timeout").fetchone()[0])
    db.execute(f"pragma busy_timeout = {patience_ms}")
    try:
        busy, *_ = db.execute("pragma wal_checkpoint(truncate)").fetchone()
    finally:
        db.execute(f"pragma busy_timeout = {timeout_ms}")
    return not busy
