"""Where the database may be: on a disk of this machine.

With write-ahead logging all programs that have the database open share memory, and that does not
work on a network share (https://sqlite.org/wal.html, section 1). There SQLite can damage the
database without an error.
"""

from pathlib import Path

from her2d.db.connection import DatabaseError, open_error
from her2d.system.disk_space import existing_folder
from her2d.system.filesystems import network_share, possible_share

REMEDY = "Set [results] database to a file on a disk of this machine."


def share_problem(database: Path) -> str | None:
    """Return why the database must not be where it is; None if it may.

    Raises:
        OSError: its folder cannot be examined.
    """
    kind = network_share(_folder_of(database))
    if kind is None:
        return None
    return f"The database {database} is on {kind}, where SQLite can damage it."


def share_doubt(database: Path) -> str | None:
    """Return why the database may not be safe where it is; None if there is no doubt.

    Raises:
        OSError: its folder cannot be examined.
    """
    kind = possible_share(_folder_of(database))
    if kind is None:
        return None
    return f"The database {database} is on {kind}. On a network share SQLite can damage it."


def require_local(database: Path) -> None:
    """Check that the database is not on a network share.

    Raises:
        DatabaseError: it is, or its folder cannot be examined.
    """
    try:
        problem = share_problem(database)
    except OSError as error:
        raise open_error(database, error) from error
    if problem is not None:
        raise DatabaseError(f"{problem} {REMEDY}")


def _folder_of(database: Path) -> Path:
    return existing_folder(database.resolve().parent)
