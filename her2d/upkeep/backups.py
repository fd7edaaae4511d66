"""Backups: whole copies in a folder, named by their time."""

from pathlib import Path

from her2d.ownership import belongs_with
from her2d.upkeep.copying import cannot_be_copied, keep_copy, moment, require_database

_PATTERN = "her2d-[0-9]*.sqlite"


def back_up(database: Path, folder: Path) -> Path:
    """Copy the database into `folder` under the time's name, whole and checked, or not at all.

    Raises:
        DatabaseError: it cannot be read, the copy cannot be written or is not sound.
    """
    require_database(database)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            belongs_with(folder, database)
    except OSError as error:
        raise cannot_be_copied(database, folder, error) from error
    target = folder / f"her2d-{moment()}.sqlite"
    keep_copy(database, target)
    return target


def newest_backup(folder: Path) -> Path | None:
    """The last backup in `folder`; None where there is none, or no such folder."""
    return max(folder.glob(_PATTERN), default=None)


def drop_old_backups(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups in `folder`; returns what was deleted."""
    old = sorted(folder.glob(_PATTERN))[:-keep]
    for path in old:
        path.unlink()
    return old
