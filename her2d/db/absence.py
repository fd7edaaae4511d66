"""Tell a database that was never made from one that is gone."""

from collections.abc import Iterator
from pathlib import Path

from her2d.db.backup import newest_backup
from her2d.db.connection import DatabaseError, open_error
from her2d.system.linux import unmounted_above

# <name>.<content>.<bundle>.png, as `her2d.results.heatmap` names heatmaps.
_HEATMAPS = f"*.{'[0-9a-f]' * 12}.{'[0-9a-f]' * 8}.png"


def require_not_lost(database: Path, heatmaps: Path, backups: Path) -> None:
    """Check that a database that is missing, or empty, was not there before.

    A disk that is not mounted would otherwise be noticed only when all slides have been scored
    again, into a second database.

    Args:
        database: the database, which may exist.
        heatmaps, backups: folders in which an earlier database has left files.

    Raises:
        DatabaseError: the database is gone; the sentence says why her2d believes so.
    """
    try:
        if database.exists() and database.stat().st_size > 0:
            return
        trace = next(_traces(database, heatmaps, backups), None)
    except OSError as error:
        raise open_error(database, error) from error
    if trace is not None:
        raise DatabaseError(
            f"The database {database} is missing, but {trace}. Mount its disk, or restore a backup"
            " with her2d db restore. To begin with an empty database instead, run her2d db create."
        )


def _traces(database: Path, heatmaps: Path, backups: Path) -> Iterator[str]:
    if (point := unmounted_above(database)) is not None:
        yield f"{point} is not mounted, which /etc/fstab lists"
    if (backup := newest_backup(backups)) is not None:
        yield f"there is a backup of it, {backup}"
    if heatmaps.is_dir() and (heatmap := next(heatmaps.glob(_HEATMAPS), None)) is not None:
        yield f"there are heatmaps of its results, such as {heatmap}"
