"""A schema brought up to date, with a way back: an older her2d cannot read a newer schema."""

import filecmp
import glob
from pathlib import Path

from her2d.db.connection import (
    DatabaseError,
    bring_up_to_date,
    known_schema_version,
    newest_schema,
    open_database,
)
from her2d.db.online_copy import cannot_be_copied, keep_copy, moment


def migrate(database: Path, folder: Path | None = None) -> Path | None:
    """Migrate the database, making it where there is none, after a copy of it as it was.

    Returns the copy, which lies in `folder` or else beside the database; None where nothing that
    could be lost was migrated.

    Raises:
        DatabaseError: it is not her2d's, or cannot be copied or migrated; then it is as it was.
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
        bring_up_to_date(database)
    except DatabaseError:
        # A service is started again every few seconds: it must not fill the disk with copies of
        # what is as it was.
        if copy not in earlier:
            copy.unlink(missing_ok=True)
        raise
    return copy


def _copy_of(database: Path, folder: Path, name: str, earlier: list[Path]) -> Path:
    """A copy in `folder`: one of the `earlier`, if nothing has changed since.

    A process that was killed while it copied or migrated has left its own.
    """
    try:
        for unfinished in folder.glob(f"{glob.escape(name)}-*.part*"):
            unfinished.unlink(missing_ok=True)
        copy = folder / f"{name}-{moment()}.sqlite"
        keep_copy(database, copy)
        for other in earlier:
            if filecmp.cmp(copy, other, shallow=False):
                copy.unlink()
                return other
    except OSError as error:
        raise cannot_be_copied(database, folder, error) from error
    return copy
