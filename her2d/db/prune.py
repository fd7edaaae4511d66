"""Delete old tile rows in short transactions."""

import sqlite3
import time
from dataclasses import dataclass

from sqlite_utils import Database

from her2d.db.connection import DatabaseError
from her2d.system.clock import in_seconds, now
from her2d.system.write_transaction import write_transaction

_RUNS_AT_ONCE = 50
_PAUSE_S = 0.05  # SQLite has no queue for writers, so a pause lets others write between two steps


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many runs lost their tile rows, and how many rows were deleted."""

    runs: int
    tiles: int


def prune_tiles(db: Database, keep_days: float) -> Pruned:
    """Delete the tile rows of runs that finished more than `keep_days` days ago.

    Results, their intervals and their heatmaps stay.

    Args:
        db: the database.
        keep_days: how many days tile rows are kept.

    Returns:
        What was deleted.

    Raises:
        DatabaseError: another process kept the database locked. Rows that were deleted before
            that stay deleted.
    """
    try:
        return _prune(db, keep_days)
    except sqlite3.Error as error:
        raise DatabaseError(f"The database could not be pruned: {error}.") from error


def _prune(db: Database, keep_days: float) -> Pruned:
    before = in_seconds(-86_400 * keep_days)
    rows = db.execute(
        "select id from runs where finished_at < ?"
        " and exists (select 1 from tiles where run_id = runs.id)",
        [before],
    ).fetchall()
    old = [int(row[0]) for row in rows]
    tiles = 0
    for start in range(0, len(old), _RUNS_AT_ONCE):
        some = old[start : start + _RUNS_AT_ONCE]
        marks = ", ".join("?" for _ in some)
        with write_transaction(db):
            db.execute(f"update runs set tiles_pruned_at = ? where id in ({marks})", [now(), *some])
            tiles += db.execute(f"delete from tiles where run_id in ({marks})", some).rowcount
        time.sleep(_PAUSE_S)
    return Pruned(len(old), tiles)
