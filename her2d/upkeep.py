"""Care of the database while the daemon goes on writing: back up, check, prune.

All three are safe beside a running daemon: SQLite's online backup copies a consistent moment
(https://sqlite.org/backup.html), and pruning works in short transactions.
"""

import os
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from her2d.database import DatabaseError
from her2d.intake import in_seconds

_PAGES_AT_ONCE = 2048  # 8 MiB: the daemon writes between two steps
_RUNS_AT_ONCE = 50
_PATTERN = "her2d-*.sqlite"
_LEFTOVERS = "her2d-*.part*"  # and SQLite's journals of them
_LEFT_BEHIND_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune took away."""

    runs: int
    tiles: int


def back_up(database: Path, folder: Path) -> Path:
    """Copy the database into `folder` under the time's name, whole and checked, or not at all.

    Raises:
        DatabaseError: it cannot be read, the copy cannot be written or is not sound.
    """
    target = folder / f"her2d-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.sqlite"
    partial = target.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_leftovers(folder)
        try:
            _copy(database, partial)
            if found := problems(partial):
                raise DatabaseError(f"The copy of {database} is not sound: {found[0]}.")
            _to_disk(partial)
            partial.replace(target)
            _to_disk(folder)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"{database} cannot be backed up to {folder}: {error}.") from error
    return target


def drop_old_backups(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups in `folder`; returns what was deleted."""
    old = sorted(folder.glob(_PATTERN))[:-keep]
    for path in old:
        path.unlink()
    return old


def _drop_leftovers(folder: Path) -> None:
    """Delete what backups that were killed left, each as large as the database.

    One that is still being written to is another's, who is at it now.
    """
    for path in folder.glob(_LEFTOVERS):
        if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
            path.unlink()


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


def prune_tiles(db: Database, keep_days: float) -> Pruned:
    """Delete the tile rows of runs that finished over `keep_days` days ago.

    Results, their intervals and their heatmaps stay; only the rows behind them go.
    """
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
        with db.atomic():
            tiles += db.execute(f"delete from tiles where run_id in ({marks})", some).rowcount
    return Pruned(len(old), tiles)


def _copy(database: Path, target: Path) -> None:
    if not database.is_file():
        raise DatabaseError(f"There is no database {database}.")
    source = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy, pages=_PAGES_AT_ONCE)
        # A backup is one file: it must not need a log beside it.
        copy.execute("pragma journal_mode = delete")
    finally:
        copy.close()
        source.close()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
