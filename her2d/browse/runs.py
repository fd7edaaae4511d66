"""Runs as the pages need them: found again at each request, read once."""

from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache, cached
from sqlite_utils import Database

from her2d.browse.database import ResultsDatabase
from her2d.browse.originals import RecordedOriginal
from her2d.errors import Her2dError
from her2d.results.stored_run import StoredRun, read_run
from her2d.system.file_identity import FileStamp

_RUNS = 8  # of a large slide, each has some 10 MB

_KEY = """
    select runs.id as run_id, runs.finished_at, runs.tiles_pruned_at, runs.heatmap_path,
        run_pictures.slide_path, slides.file_name, slides.path, slides.content_hash, slides.size,
        slides.mtime_ns, slides.ctime_ns
    from runs
    join slides on slides.id = runs.slide_id
    left join run_pictures on run_pictures.run_id = runs.id
    where runs.id = ? and runs.is_current = 1
"""


class NoSuchRun(Her2dError):  # noqa: N818  the name is the problem
    """No slide has that run as its current one."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """What tells whether something that was made from a run still belongs to it.

    The id alone does not: the database may have been restored, or the file renamed or moved.
    """

    run_id: int
    finished_at: str
    tiles_pruned_at: str | None
    heatmap_path: str | None
    slide_path: str | None
    file_name: str
    original: RecordedOriginal


class Runs:
    """The runs in the database. Safe to use from several threads."""

    def __init__(self, database: ResultsDatabase) -> None:
        self._database = database
        self.read = cached(LRUCache(_RUNS), lock=Lock())(self._read)

    def key(self, run_id: int) -> RunKey:
        """Find a run. Raises NoSuchRun, and the errors of `ResultsDatabase.run`."""

        def query(db: Database) -> RunKey:
            for row in db.query(_KEY, [run_id]):
                stamp = [row.pop(name) for name in ("size", "mtime_ns", "ctime_ns")]
                known = None if None in stamp else FileStamp(*stamp)
                original = RecordedOriginal(row.pop("path"), row.pop("content_hash"), known)
                return RunKey(**row, original=original)
            raise NoSuchRun(f"There is no current run {run_id}.")

        return self._database.run(query)

    def _read(self, key: RunKey) -> StoredRun:
        try:
            return self._database.run(lambda db: read_run(db, key.run_id))
        except KeyError as error:
            raise NoSuchRun(f"There is no current run {key.run_id}.") from error
