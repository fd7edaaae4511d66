"""A thread that claims jobs one by one and sees each to its end, whatever that is."""

import sqlite3
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from her2d.database import open_database
from her2d.inference import DeviceLostError
from her2d.intake import Job, JobQueue, JobState
from her2d.ops import Metrics
from her2d.pipeline import SlideCancelledError
from her2d.processing import DuplicateScanError, FileChangedError, SlideProcessor
from her2d.results import SlideResult
from her2d.settings import Settings
from her2d.slides import SlideError

log = structlog.get_logger(__name__)

_IDLE_S = 0.5
_AFTER_DATABASE_ERROR_S = 5.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Two steps of stopping: take nothing new, then give up what is under way.

    Attributes:
        device_lost: set beside `requested` where only a new process can go on.
    """

    requested: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)
    device_lost: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Works in its own thread, through a database connection of its own, until asked to stop."""

    def __init__(
        self, settings: Settings, processor: SlideProcessor, metrics: Metrics, stop: Stop
    ) -> None:
        self._settings = settings
        self._processor = processor
        self._metrics = metrics
        self._stop = stop

    def run(self) -> None:
        db = open_database(self._settings.results.database)
        jobs = JobQueue(db)
        try:
            while not self._stop.requested.is_set():
                try:
                    self._next(jobs)
                except sqlite3.Error as error:
                    log.error("database_unavailable", reason=str(error))
                    self._stop.requested.wait(_AFTER_DATABASE_ERROR_S)
        finally:
            db.close()

    def _next(self, jobs: JobQueue) -> None:
        job = jobs.claim()
        if job is None:
            self._stop.requested.wait(_IDLE_S)
            return
        with structlog.contextvars.bound_contextvars(job_id=job.id, file=job.path.name):
            log.info("slide_started", attempt=job.attempts)
            outcome = self._process(jobs, job)
            self._metrics.slides.labels(outcome.value).inc()

    def _process(self, jobs: JobQueue, job: Job) -> JobState:
        """Run a claimed job; returns the state it is in now."""
        try:
            result = self._processor.process_job(jobs.database, job, cancel=self._stop.cancel)
        except Exception as error:  # noqa: BLE001  the daemon outlives whatever one slide brings
            return self._put_aside(jobs, job, error)
        self._count(job, result)
        return JobState.DONE

    def _put_aside(self, jobs: JobQueue, job: Job, error: Exception) -> JobState:
        """Record why a job brought no result; returns the state that puts it in."""
        match error:
            case DuplicateScanError():
                jobs.duplicate(job.id, error.slide_id, error.content_hash)
                log.info("slide_duplicate", slide_id=error.slide_id)
                state = JobState.DUPLICATE
            case SlideError():
                jobs.quarantine(job.id, str(error))
                log.warning("slide_quarantined", reason=str(error))
                state = JobState.QUARANTINED
            case SlideCancelledError():
                jobs.give_back(job.id)
                log.info("slide_given_back")
                state = JobState.QUEUED
            case DeviceLostError():
                # No fault of the slide's: it waits for the process that systemd starts next.
                jobs.give_back(job.id)
                log.critical("device_lost", reason=str(error))
                self._stop.device_lost.set()
                self._stop.requested.set()
                state = JobState.QUEUED
            case FileChangedError():
                jobs.settle_again(job.id, str(error))
                log.warning("slide_changed_while_read")
                state = JobState.SETTLING
            case FileNotFoundError() if not job.path.exists():
                jobs.vanished(job.id)
                log.warning("slide_vanished")
                state = JobState.VANISHED
            case _:
                state = self._retry(jobs, job, error)
        return state

    def _retry(self, jobs: JobQueue, job: Job, error: Exception) -> JobState:
        reason = f"{type(error).__name__}: {error}"
        state = jobs.retry_later(job, reason, max_attempts=self._settings.intake.max_attempts)
        event = "slide_quarantined" if state is JobState.QUARANTINED else "slide_failed"
        log.error(event, attempt=job.attempts, exc_info=error)
        return state

    def _count(self, job: Job, result: SlideResult) -> None:
        metrics = self._metrics
        discovered = datetime.fromisoformat(job.discovered_at)
        if job.queued_at is not None:
            settled = datetime.fromisoformat(job.queued_at) - discovered
            metrics.settling.observe(settled.total_seconds())
        finished = datetime.fromisoformat(result.finished_at)
        metrics.scan_to_result.observe((finished - discovered).total_seconds())
        metrics.results.labels(result.her2_status).inc()
        metrics.processing.observe(result.elapsed_s)
        metrics.last_success.set(time.time())
        background = result.tiles_total - result.tiles_tissue - result.tiles_unreadable
        for fate, tiles in (
            ("background", background),
            ("non_tumor", result.tiles_tissue - result.tiles_tumor),
            ("weak", result.tiles_tumor - result.tiles_strong),
            ("strong", result.tiles_strong),
            ("unreadable", result.tiles_unreadable),
        ):
            metrics.tiles.labels(fate).inc(tiles)
        log.info(
            "slide_finished",
            slide_id=result.slide_id,
            her2_status=result.her2_status,
            high_expression_percent=result.high_expression_percent,
            elapsed_s=result.elapsed_s,
        )
