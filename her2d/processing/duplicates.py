"""Duplicates: scans whose bytes were already processed under any file name."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from her2d.processing.errors import DuplicateScanError
from her2d.queue.job import Job
from her2d.queue.store import JobQueue
from her2d.results.queries import slide_with_result
from her2d.results.renaming import rename_slide
from her2d.system.io_errors import is_gone

_WAIT_S = 0.2


def refuse_duplicate(db: Database, content_hash: str, bundle_digest: str) -> None:
    """Raise DuplicateScanError if the content has a result by this bundle."""
    slide_id = slide_with_result(db, content_hash, bundle_digest)
    if slide_id is not None:
        raise DuplicateScanError(slide_id, content_hash)


def follow(
    jobs: JobQueue,
    slide_id: int,
    job: Job,
    *,
    is_within_reach: Callable[[Path], bool],
) -> None:
    """Record a job's file as the slide's if the recorded one is gone, or is another scan now.

    Args:
        jobs: the queue.
        slide_id: the slide.
        job: the job of a file with the same content.
        is_within_reach: whether the storage of a path answers. If that of the recorded path does
            not, the file may still exist and the path is kept.
    """
    rows = jobs.database.query("select path, content_hash from slides where id = ?", [slide_id])
    for row in list(rows):
        old = Path(row["path"])
        is_lost = is_within_reach(old) and is_gone(old)
        if is_lost or _is_another_scan(jobs, old, row["content_hash"]):
            rename_slide(jobs.database, slide_id, job.path, job_id=job.id)


def _is_another_scan(jobs: JobQueue, path: Path, content_hash: str) -> bool:
    """Return whether the file that was last found at a path has another content."""
    newest = jobs.newest_of(path)
    return newest is not None and newest.content_hash not in (None, content_hash)


class ContentLocks:
    """One lock for each content, so that copies that arrive together are processed in turn.

    A content is named by what is known of it before all of it is read.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, content: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold a content's lock, waiting for the thread that has it.

        Args:
            content: the content's name.
            on_wait: called several times a second while waiting; what it raises ends the wait.
        """
        with self._changed:
            while content in self._held:
                on_wait()
                self._changed.wait(_WAIT_S)
            self._held.add(content)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(content)
                self._changed.notify_all()
