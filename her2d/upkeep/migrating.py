"""A schema brought up to date, with a way back: an older her2d cannot read a newer schema."""

from pathlib import Path

from her2d.database import NEWEST_SCHEMA, open_database, schema_version
from her2d.upkeep.copying import keep_copy, moment


def migrate(database: Path, folder: Path | None = None) -> Path | None:
    """Migrate the database, making it where there is none, after a copy of it as it was.

    Returns the copy, which lies in `folder` or else beside the database; None where nothing that
    could be lost was migrated.

    Raises:
        DatabaseError: it cannot be copied, and then it was not migrated; or not be migrated.
    """
    version = schema_version(database)
    copy = None
    if 0 < version < NEWEST_SCHEMA:
        copy = (folder or database.parent) / f"{database.stem}.schema-{version}-{moment()}.sqlite"
        keep_copy(database, copy)
    open_database(database).close()
    return copy
