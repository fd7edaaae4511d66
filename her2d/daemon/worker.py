"""A thread that claims jobs one by one and sees each to its end, whatever that is."""

import contextlib
import errno
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from her2d.archive.archiver import follow
from her2d.daemon.storage_probe import Storage
from her2d.db.connection import open_database
from her2d.db.retry import WriteCancelledError, until_written
from her2d.inference.engine import DeviceLostError
from her2d.intake.discovery import ScanRules, lies_within
from her2d.monitoring.metrics import Metrics
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.engine_health import EngineDownError
from her2d.processing.processor import (
    ClaimLostError,
    DuplicateScanError,
    FileChangedError,
    ResultsUnwritableError,
    SlideProcessor,
)
from her2d.queue.claims import ClaimRegistry
from her2d.queue.job import Job, JobState, not_where_it_was_archived
from her2d.queue.store import JobQueue
from her2d.results.history import timings_of_run
from her2d.results.records import SlideResult, StepTiming
from her2d.settings import Settings
from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.system.io_errors import is_away, is_gone, may_be_the_share
from her2d.system.memory import give_back_free_memory

log = structlog.get_logger(__name__)

_IDLE_S = 0.5
_AFTER_ERROR_S = 5.0
_BUSY_TIMEOUT_S = 5.0
_RESULTS_UNWRITABLE_S = 30.0
_ENGINE_DOWN_S = 60.0
_SHARE_S = 300.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What the workers are asked: take nothing new for now, for good, or give up at once.

    Attributes:
        device_lost: set beside `stop_requested` where only a new process can go on.
    """

    paused: threading.Event = field(default_factory=threading.Event)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)
    device_lost: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Works in its own thread, through a database connection of its own, until asked to stop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        processor: SlideProcessor,
        metrics: Metrics,
        signals: Signals,
        claims: ClaimRegistry,
        storage: Storage,
    ) -> None:
        self._settings = settings
        self._processor = processor
        self._metrics = metrics
        self._signals = signals
        self._claims = claims
        self._storage = storage

    def run(self) -> None:
        """Never returns before it is asked to: an error costs the connection, not the worker."""
        while not self._signals.stop_requested.is_set():
            try:
                database = self._settings().results.database
                db = open_database(database, busy_timeout_s=_BUSY_TIMEOUT_S)
                with contextlib.closing(db):
                    self._work(JobQueue(db))
            except sqlite3.Error as error:
                log.warning("worker_without_database", reason=str(error), again_in_s=_AFTER_ERROR_S)
                self._signals.stop_requested.wait(_AFTER_ERROR_S)
            except Exception:
                # Whatever it was, the job it held is taken up again by the supervisor.
                log.exception("worker_failed")
                self._signals.stop_requested.wait(_AFTER_ERROR_S)

    def _work(self, jobs: JobQueue) -> None:
        while not self._signals.stop_requested.is_set():
            job = None if self._signals.paused.is_set() else self._claims.claim(jobs)
            if job is not None:
                try:
                    self._see_to_its_end(jobs, job)
                finally:
                    self._claims.release(job)
                give_back_free_memory()
            else:
                self._signals.stop_requested.wait(_IDLE_S)

    def _see_to_its_end(self, jobs: JobQueue, job: Job) -> None:
        bound = {"job_id": job.id, "attempt_id": job.attempt_id, "file": job.path.name}
        with structlog.contextvars.bound_contextvars(**bound):
            log.info("slide_started", attempt=job.attempts)
            self._process(jobs, job)

    def _process(self, jobs: JobQueue, job: Job) -> JobState:
        """Run a claimed job; returns the state it is in now."""
        try:
            self._refuse_what_hangs(job)
            self._refuse_what_leads_out(job)
            result = self._processor.process_job(
                jobs,
                job,
                cancel=self._signals.cancel,
                heartbeat=lambda: self._claims.heartbeat(job),
            )
        except Exception as error:  # noqa: BLE001  the daemon outlives whatever one slide brings
            cause = error
            return until_written(lambda: self._put_aside(jobs, job, cause), self._signals.cancel)
        self._count(job, result, timings_of_run(jobs.database, result.run_id))
        return JobState.DONE

    def _refuse_what_hangs(self, job: Job) -> None:
        """A worker that waits for a share works on nothing else, and is not to be woken."""
        if not self._storage.answers(job.path):
            raise TimeoutError(errno.ETIMEDOUT, "its storage does not answer")

    @staticmethod
    def _refuse_what_leads_out(job: Job) -> None:
        """A link that took a folder's place since the file was found must not lead elsewhere."""
        inbox = job.inbox
        if inbox is None or not job.path.is_relative_to(inbox):
            return  # given by hand, or retried from where it was filed
        if not lies_within(job.path, inbox):
            raise SlideError(job.path.name, "lies behind a link that leads out of the inbox")

    def _put_aside(self, jobs: JobQueue, job: Job, error: Exception) -> JobState:
        """Record why a job brought no result; returns the state that puts it in."""
        state = JobState.QUARANTINED
        match error:
            case DuplicateScanError():
                state = self._duplicate(jobs, job, error)
            case ClaimLostError():
                log.warning("slide_claim_lost")
                state = jobs.get(job.id).state
            case SlideCancelledError() | WriteCancelledError():
                jobs.give_back(job)
                log.info("slide_given_back")
                state = JobState.QUEUED
            case EngineDownError():
                jobs.postpone(job, str(error), _ENGINE_DOWN_S)
                log.error("engine_down", reason=str(error))
                state = JobState.FAILED
            case DeviceLostError():
                # It waits for the process that systemd starts next, and counts as an interruption:
                # a slide may be what kills the device.
                state = jobs.take_up_again(job)
                log.critical("device_lost", reason=str(error))
                self._signals.device_lost.set()
                self._signals.stop_requested.set()
            case FileChangedError():
                jobs.settle_again(job, str(error))
                log.warning("slide_changed_while_read", reason=str(error))
                state = JobState.SETTLING
            case ResultsUnwritableError(
                __cause__=OSError(errno=errno.ENAMETOOLONG | errno.EINVAL | errno.EILSEQ)
            ) | (
                sqlite3.IntegrityError()
                | sqlite3.DataError()
                | sqlite3.InterfaceError()
                | sqlite3.ProgrammingError()
            ):
                state = self._retry(jobs, job, str(error), error)  # this slide's, not the disk's
            case ResultsUnwritableError() | sqlite3.Error():
                jobs.postpone(job, str(error), _RESULTS_UNWRITABLE_S)
                log.error("results_unwritable", reason=str(error))
                state = JobState.FAILED
            case OSError():
                state = self._unreadable(jobs, job, error, error)
            case SlideUnavailableError(__cause__=OSError() as cause):
                state = self._unreadable(jobs, job, error, cause)
            case SlideError():
                jobs.quarantine(job, str(error))
                log.warning("slide_quarantined", reason=str(error))
            case _:
                state = self._retry(jobs, job, f"{type(error).__name__}: {error}", error)
        return state

    def _duplicate(self, jobs: JobQueue, job: Job, error: DuplicateScanError) -> JobState:
        jobs.duplicate(job, error.slide_id, error.content_hash)
        follow(jobs, error.slide_id, job.path, is_within_reach=self._storage.answers)
        log.info("slide_duplicate", slide_id=error.slide_id)
        return JobState.DUPLICATE

    def _unreadable(self, jobs: JobQueue, job: Job, error: Exception, cause: OSError) -> JobState:
        """The storage failed: a file that cannot be reached is waited for, as a new one is; one
        that was filed is tried here again, since who looks after inboxes must touch no archive."""
        is_swept = ScanRules.of(self._settings().intake).finds(job.path, job.inbox)
        if isinstance(cause, FileNotFoundError) and is_gone(job.path):
            if not is_swept:
                return self._retry(jobs, job, not_where_it_was_archived(job), error)
            jobs.vanished(job)
            log.warning("slide_vanished")
            return JobState.VANISHED
        reason = f"{job.path.name} cannot be read: {cause.strerror or cause}."
        if may_be_the_share(cause, job.path) or (is_away(cause) and not is_swept):
            jobs.postpone(job, reason, _SHARE_S)
            log.warning("slide_unreachable", reason=reason)
            return JobState.FAILED
        if not is_away(cause):
            return self._retry(jobs, job, reason, error)
        jobs.settle_again(job, reason)
        log.warning("slide_unreachable", reason=reason)
        return JobState.SETTLING

    def _retry(self, jobs: JobQueue, job: Job, reason: str, error: Exception) -> JobState:
        most = self._settings().intake.max_attempts
        state = jobs.retry_later(job, reason, max_attempts=most)
        event = "slide_quarantined" if state is JobState.QUARANTINED else "slide_failed"
        log.error(event, attempt=job.attempts, reason=reason, exc_info=error)
        return state

    def _count(self, job: Job, result: SlideResult, timings: list[StepTiming]) -> None:
        metrics = self._metrics
        for timing in timings:
            metrics.steps.labels(timing.step).observe(timing.seconds)
        discovered = datetime.fromisoformat(job.discovered_at)
        if job.queued_at is not None:
            settled = datetime.fromisoformat(job.queued_at) - discovered
            metrics.settling.observe(settled.total_seconds())
        finished = datetime.fromisoformat(result.finished_at)
        metrics.scan_to_result.observe((finished - discovered).total_seconds())
        metrics.results.labels(result.her2_status).inc()
        metrics.processing.observe(result.elapsed_s)
        background = result.tiles_total - result.tiles_tissue - result.tiles_unreadable
        for tile_class, tiles in (
            ("background", background),
            ("non_tumor", result.tiles_tissue - result.tiles_tumor),
            ("weak", result.tiles_tumor - result.tiles_strong),
            ("strong", result.tiles_strong),
            ("unreadable", result.tiles_unreadable),
        ):
            metrics.tiles.labels(tile_class).inc(tiles)
        log.info(
            "slide_finished",
            slide_id=result.slide_id,
            run_id=result.run_id,
            her2_status=result.her2_status,
            high_expression_percent=result.high_expression_percent,
            elapsed_s=result.elapsed_s,
        )
