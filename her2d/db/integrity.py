"""Check a database file for damage."""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from her2d.db.connection import DatabaseError, open_error, readonly_uri

# Primary result codes whose cause is a lock, a permission or the machine, and not the file.
_EXTERNAL_CAUSES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)

_STEPS = 1000  # of SQLite's machine between two looks at the clock


def is_damage(error: Exception) -> bool:
    """Return whether an error means that the database file is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


COUNTED: Mapping[str, str] = {
    "job_counts": """
        select state, not_before is not null, priority, source, inbox, overdue_at is not null,
            id = (select max(id) from jobs as same where same.path = jobs.path), count(*)
        from jobs group by 1, 2, 3, 4, 5, 6, 7
    """,
    "result_counts": """
        select her2_status, coalesce(reason_code, ''), borderline, coalesce(send_to_ihc, -1),
            bundle_id, count(*)
        from runs where is_current = 1 group by 1, 2, 3, 4, 5
    """,
    "outcome_counts": """
        select her2_outcome, count(*) from outcomes where is_current = 1 group by 1
    """,
}
"""The tables that triggers keep, and what they hold as found by reading all rows."""


def problems(database: Path) -> list[str]:
    """Run SQLite's `integrity_check` and `foreign_key_check`, and count again what triggers count.

    Returns:
        What they found; empty if the database is sound.

    Raises:
        DatabaseError: the database cannot be opened, because it does not exist, is locked, or this
            user may not read it.
    """
    try:
        if not database.is_file():
            raise DatabaseError(f"There is no database {database}.")
        connection = sqlite3.connect(readonly_uri(database), uri=True)
        try:
            found = [str(row[0]) for row in connection.execute("pragma integrity_check")]
            orphans = connection.execute("pragma foreign_key_check").fetchall()
            miscounted = [table for table in COUNTED if _is_miscounted(connection, table)]
        finally:
            connection.close()
    except (PermissionError, sqlite3.DatabaseError) as error:
        if isinstance(error, PermissionError) or _has_external_cause(error):
            raise open_error(database, error) from error
        # A file that is too damaged to be checked is a finding, not a failure of the check.
        return [str(error)]
    broken = [f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}" for row in orphans]
    wrong = [f"{table} differs from the rows that it counts" for table in miscounted]
    return [line for line in found if line != "ok"] + broken + wrong


def _is_miscounted(connection: sqlite3.Connection, table: str) -> bool:
    if not connection.execute(
        "select 1 from sqlite_schema where type = 'table' and name = ?", [table]
    ).fetchone():
        return False  # another program's database
    kept = connection.execute(f"select * from {table}")
    return set(kept) != set(connection.execute(COUNTED[table]))


def first_problem(database: Path, within_s: float) -> str | None:
    """Run SQLite's `quick_check` for a limited time.

    Args:
        database: a database that can be opened.
        within_s: seconds after which the check ends, and what it has not read counts as sound.

    Returns:
        The first problem; None if none was found.

    Raises:
        DatabaseError: the database cannot be opened.
    """
    until = time.monotonic() + within_s
    try:
        with closing(sqlite3.connect(readonly_uri(database), uri=True)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            (found,) = connection.execute("pragma quick_check(1)").fetchone()
    except (PermissionError, sqlite3.DatabaseError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            return None
        if is_damage(error):
            return str(error)
        raise open_error(database, error) from error
    return None if found == "ok" else str(found)


def _has_external_cause(error: sqlite3.DatabaseError) -> bool:
    return (error.sqlite_errorcode & 0xFF) in _EXTERNAL_CAUSES
