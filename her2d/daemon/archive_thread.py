"""The thread that moves finished originals, so that no slide waits for a slow archive."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable

from her2d.archive.archiver import Archiver
from her2d.db.connection import DatabaseError, open_existing
from her2d.errors import Her2dError
from her2d.queue.store import JobQueue
from her2d.settings import Settings
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_ROUND_S = 1.0
_AFTER_ERROR_S = 5.0
_BUSY_TIMEOUT_S = 5.0


class ArchivingStoppedError(Her2dError):
    """A stop was requested; the next start finishes the move."""


class ArchiveThread:
    """Moves finished originals, in its own thread and through its own database connection."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        on_unforeseen: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._on_unforeseen = on_unforeseen
        self._archiver = Archiver(self._heartbeat)
        self._progress_at: float | None = None

    def run(self) -> None:
        """Archive until stopped. After an error the thread continues with a new connection."""
        while not self._stop.is_set():
            try:
                database = self._settings().results.database
                db = open_existing(database, busy_timeout_s=_BUSY_TIMEOUT_S)
                with contextlib.closing(db):
                    self._work(JobQueue(db))
            except ArchivingStoppedError:
                log.info("archive_interrupted")
            except (sqlite3.Error, DatabaseError) as error:
                log.warning(
                    "archive_database_unavailable", reason=str(error), again_in_s=_AFTER_ERROR_S
                )
                self._stop.wait(_AFTER_ERROR_S)
            except Exception:
                log.exception("archive_failed")
                self._on_unforeseen()
                self._stop.wait(_AFTER_ERROR_S)

    @property
    def unmoved(self) -> int:
        """How many files could not be moved at the last attempt. Any thread may call this."""
        return self._archiver.unmoved

    def problem(self) -> str | None:
        """Return a sentence if no file was moved for `stalled_after_s`, else None.

        Any thread may call this.
        """
        progress_at = self._progress_at
        silent_s = self._clock() - progress_at if progress_at is not None else 0.0
        if silent_s < self._settings().intake.stalled_after_s:
            return None
        return f"Moving finished files has made no progress for {silent_s:.0f} s."

    def _work(self, jobs: JobQueue) -> None:
        while not self._stop.is_set():
            self._progress_at = self._clock()
            try:
                self._archiver.round(jobs, self._settings().intake)
            finally:
                self._progress_at = None
            self._stop.wait(_ROUND_S)

    def _heartbeat(self) -> None:
        self._progress_at = self._clock()
        if self._stop.is_set():
            raise ArchivingStoppedError("Stopped while files were moved.")
