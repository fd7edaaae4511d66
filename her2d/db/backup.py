"""Backups: complete copies in a folder, named by the time at which they were made."""

from collections.abc import Iterator
from pathlib import Path

from her2d.db.connection import require_database
from her2d.db.online_copy import copy_error, file_timestamp, write_checked_copy
from her2d.system.files import make_folder
from her2d.system.ownership import copy_owner

_PATTERN = f"her2d-{'[0-9]' * 8}T{'[0-9]' * 12}Z.sqlite"


def back_up(database: Path, folder: Path) -> Path:
    """Copy the database into `folder` and check the copy.

    Args:
        database: the database, which other processes may use meanwhile.
        folder: the folder of the backups. It is created if it does not exist.

    Returns:
        The new backup.

    Raises:
        DatabaseError: the database cannot be read or belongs to another program, or the copy
            cannot be written or is damaged. No copy is then left.
    """
    require_database(database)
    try:
        if not folder.is_dir():
            make_folder(folder)
            copy_owner(folder, database)
    except OSError as error:
        raise copy_error(database, folder, error) from error
    target = _of_now(folder)
    write_checked_copy(database, target)
    return target


def newest_backup(folder: Path) -> Path | None:
    """Return the newest backup in `folder`, or None if there is none.

    A backup whose name is a time in the future was made while the clock was wrong. It is ignored,
    because its age is not known.
    """
    newest = _of_now(folder)
    return max((path for path in _backups_in(folder) if path <= newest), default=None)


def drop_old_backups(folder: Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest backups in `folder`.

    Backups whose names are times in the future count as the oldest, so that the backup that was
    just made is the last one to be deleted.

    Returns:
        The deleted backups.

    Raises:
        OSError: a backup cannot be deleted.
    """
    newest = _of_now(folder)
    old = sorted(_backups_in(folder), key=lambda path: (path <= newest, path))[:-keep]
    for path in old:
        path.unlink()
    return old


def _backups_in(folder: Path) -> Iterator[Path]:
    """Find the files that `back_up` names so; a folder or a link of that name is a person's."""
    return (path for path in folder.glob(_PATTERN) if path.is_file() and not path.is_symlink())


def _of_now(folder: Path) -> Path:
    return folder / f"her2d-{file_timestamp()}.sqlite"
