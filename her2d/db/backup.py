"""Backups: whole copies in a folder, named by their time."""

from pathlib import Path

from her2d.db.online_copy import cannot_be_copied, keep_copy, moment, require_database
from her2d.system.ownership import belongs_with

_PATTERN = "her2d-[0-9]*.sqlite"


def back_up(database: Path, folder: Path) -> Path:
    """Copy the database into `folder` under the time's name, whole and checked, or not at all.

    Raises:
        DatabaseError: it cannot be read or is not her2d's, the copy cannot be written or is not
            sound.
    """
    require_database(database)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            belongs_with(folder, database)
    except OSError as error:
        raise cannot_be_copied(database, folder, error) from error
    target = _of_now(folder)
    keep_copy(database, target)
    return target


def newest_backup(folder: Path) -> Path | None:
    """The last backup in `folder`; None where there is none, or no such folder.

    One of a time to come was made while the clock was wrong, and says nothing of its age.
    """
    newest = _of_now(folder)
    return max((path for path in folder.glob(_PATTERN) if path <= newest), default=None)


def drop_old_backups(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups in `folder`; returns what was deleted.

    Those of a time to come count as the oldest: the last one to be deleted is the one just made.
    """
    newest = _of_now(folder)
    old = sorted(folder.glob(_PATTERN), key=lambda path: (path <= newest, path))[:-keep]
    for path in old:
        path.unlink()
    return old


def _of_now(folder: Path) -> Path:
    return folder / f"her2d-{moment()}.sqlite"
