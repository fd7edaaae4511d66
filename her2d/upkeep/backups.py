"""Backups: whole copies in a folder, named by their time."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from her2d.database import DatabaseError
from her2d.ownership import as_closed_as, belongs_with, who_may
from her2d.upkeep.copying import copy_online, to_disk
from her2d.upkeep.soundness import problems

_PATTERN = "her2d-[0-9]*.sqlite"
_UNFINISHED = "her2d-*.part*"  # with SQLite's journal beside it
_LONGEST_BACKUP_S = 86_400.0


def back_up(database: Path, folder: Path) -> Path:
    """Copy the database into `folder` under the time's name, whole and checked, or not at all.

    Raises:
        DatabaseError: it cannot be read, the copy cannot be written or is not sound.
    """
    target = folder / f"her2d-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.sqlite"
    partial = target.with_suffix(".part")
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            belongs_with(folder, database)
        _remove_leftovers(folder)
        try:
            copy_online(database, partial)
            if found := problems(partial):
                raise DatabaseError(f"The copy of {database} is not sound: {found[0]}.")
            as_closed_as(partial, database)
            to_disk(partial)
            partial.replace(target)
            to_disk(folder)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        hint = f" {who_may(folder)}" if isinstance(error, PermissionError) else ""
        raise DatabaseError(
            f"{database} cannot be backed up to {folder}: {error}.{hint}"
        ) from error
    return target


def drop_old_backups(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups in `folder`; returns what was deleted."""
    old = sorted(folder.glob(_PATTERN))[:-keep]
    for path in old:
        path.unlink()
    return old


def _remove_leftovers(folder: Path) -> None:
    """Delete what backups that were killed left; younger ones may still be written."""
    oldest = time.time() - _LONGEST_BACKUP_S
    for path in folder.glob(_UNFINISHED):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
