"""Check whether a result could be recorded now: heatmaps written, and the database changed.

The checks run in separate threads, because a share that hangs, or a lock that another process
holds, may delay them for any time. All others read the last answer.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from her2d.daemon.storage_probe import FolderProbe
from her2d.settings import ResultsSettings
from her2d.system.disk_space import existing_folder

_EVERY_S = 5.0
_LOCKED_S = 2.0  # longer than any transaction of the daemon


class ResultsProbe:
    """Checks the database and the heatmaps' folder at regular intervals. Safe in any thread."""

    def __init__(self, results: ResultsSettings) -> None:
        self._folder, self._database_file = results.heatmaps, results.database
        self._heatmaps = FolderProbe(lambda: _heatmaps_problem(results.heatmaps), _EVERY_S)
        self._database = FolderProbe(lambda: _database_problem(results.database), _EVERY_S)
        for probe in (self._heatmaps, self._database):
            probe.answers_within(_EVERY_S)

    def problem(self) -> str | None:
        """Return why no result could be recorded now, None if one could. Never waits."""
        database, heatmaps = self._database.answer, self._heatmaps.answer
        if database is None:
            return f"The database {self._database_file} does not answer."
        if heatmaps is None:
            return f"The heatmaps' folder {self._folder} does not answer."
        return database or heatmaps or None

    def close(self) -> None:
        """Stop checking. A thread that hangs is not waited for."""
        self._heatmaps.close()
        self._database.close()


def _heatmaps_problem(folder: Path) -> str:
    """Return why no heatmap can be written, an empty text if one can."""
    try:
        with tempfile.TemporaryFile(dir=existing_folder(folder)) as file:
            file.write(b"test")
            file.flush()
    except OSError as error:
        return f"The heatmaps' folder {folder} cannot be written: {error.strerror}."
    return ""


def _database_problem(database: Path) -> str:
    """Return why the database cannot be changed, an empty text if it can."""
    try:
        uri = f"{database.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=_LOCKED_S)) as db:
            db.execute("begin immediate")
            db.rollback()
    except (OSError, sqlite3.Error) as error:
        return f"The database is unavailable: {error}."
    return ""
