"""A thread that files what is finished: no slide waits for an archive that is slow or away."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable

import structlog

from her2d.archive.archiver import Archiver
from her2d.db.connection import DatabaseError, open_database
from her2d.errors import Her2dError
from her2d.queue.store import JobQueue
from her2d.settings import Settings

log = structlog.get_logger(__name__)

_ROUND_S = 1.0
_AFTER_ERROR_S = 5.0
_BUSY_TIMEOUT_S = 5.0


class ArchivingStoppedError(Her2dError):
    """Stopping was asked for; the next start finishes what was under way."""


class ArchiveThread:
    """Works in its own thread, through a database connection of its own, until asked to stop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._archiver = Archiver(self._beat)
        self._got_on_at: float | None = None

    def run(self) -> None:
        """Archive until stopped; an error costs the connection, not the thread."""
        while not self._stop.is_set():
            try:
                database = self._settings().results.database
                db = open_database(database, busy_timeout_s=_BUSY_TIMEOUT_S)
                with contextlib.closing(db):
                    self._work(JobQueue(db))
            except ArchivingStoppedError:
                log.info("archiving_interrupted")
            except (sqlite3.Error, DatabaseError) as error:
                log.warning(
                    "archiving_without_database", reason=str(error), again_in_s=_AFTER_ERROR_S
                )
                self._stop.wait(_AFTER_ERROR_S)
            except Exception:
                log.exception("archiving_failed")
                self._stop.wait(_AFTER_ERROR_S)

    def problem(self) -> str | None:
        """That filing has not got on for longer than storage takes to answer; None while it does.
        Any thread may ask."""
        got_on_at = self._got_on_at
        silent_s = self._clock() - got_on_at if got_on_at is not None else 0.0
        if silent_s < self._settings().intake.stalled_after_s:
            return None
        return f"Moving finished files has not got on for {silent_s:.0f} s."

    def _work(self, jobs: JobQueue) -> None:
        while not self._stop.is_set():
            self._got_on_at = self._clock()
            try:
                self._archiver.round(jobs, self._settings().intake)
            finally:
                self._got_on_at = None
            self._stop.wait(_ROUND_S)

    def _beat(self) -> None:
        self._got_on_at = self._clock()
        if self._stop.is_set():
            raise ArchivingStoppedError("Stopped while files were moved.")
