"""What is wrong with a database file."""

import sqlite3
from pathlib import Path

from her2d.database import DatabaseError


def problems(database: Path) -> list[str]:
    """What SQLite finds wrong: `integrity_check` and `foreign_key_check`; empty when sound.

    Raises:
        DatabaseError: it cannot be opened.
    """
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        try:
            found = [str(row[0]) for row in connection.execute("pragma integrity_check")]
            orphans = connection.execute("pragma foreign_key_check").fetchall()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        # A file too damaged to be asked is a finding, not a failure of the question.
        if database.is_file():
            return [str(error)]
        raise DatabaseError(f"There is no database {database}.") from error
    broken = [
        f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is gone" for row in orphans
    ]
    return [line for line in found if line != "ok"] + broken
