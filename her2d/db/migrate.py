"""Migrate the database after a copy, because an older her2d cannot read a newer schema."""

import filecmp
import glob
from pathlib import Path

from her2d.db.connection import (
    DatabaseError,
    apply_migrations,
    known_schema_version,
    newest_schema,
    open_database,
)
from her2d.db.online_copy import copy_error, file_timestamp, write_checked_copy


def migrate(database: Path, folder: Path | None = None) -> Path | None:
    """Copy the database and migrate it; create it if it does not exist.

    Args:
        database: the database file.
        folder: where to put the copy; None for the database's folder.

    Returns:
        The copy, or None if the database was new or already had the newest schema.

    Raises:
        DatabaseError: the database belongs to another program, or cannot be copied or migrated. It
            is then unchanged.
    """
    version = known_schema_version(database)
    if version == 0:
        open_database(database).close()
    if not 0 < version < newest_schema():
        return None
    folder, name = folder or database.parent, f"{database.stem}.schema-{version}"
    earlier = list(folder.glob(f"{glob.escape(name)}-*.sqlite"))
    copy = _copy_of(database, folder, name, earlier)
    try:
        apply_migrations(database)
    except DatabaseError:
        # systemd restarts a service that fails every few seconds, which would fill the disk with
        # copies of a database that did not change.
        if copy not in earlier:
            copy.unlink(missing_ok=True)
        raise
    return copy


def _copy_of(database: Path, folder: Path, name: str, earlier: list[Path]) -> Path:
    """Return a copy in `folder`, which is one of the `earlier` ones if nothing changed since.

    A process that was killed while it copied or migrated leaves such an earlier copy.
    """
    try:
        for unfinished in folder.glob(f"{glob.escape(name)}-*.part*"):
            unfinished.unlink(missing_ok=True)
        copy = folder / f"{name}-{file_timestamp()}.sqlite"
        write_checked_copy(database, copy)
        for other in earlier:
            if filecmp.cmp(copy, other, shallow=False):
                copy.unlink()
                return other
    except OSError as error:
        raise copy_error(database, folder, error) from error
    return copy
