"""`her2d run`: wires intake, pipeline, results and ops together, and outlives every bad file.

One thread watches the inboxes and queues what is finished. As many workers as slides may be in
flight each claim a job, score its slide and record the result. All they share is the pipeline and
the database, through a connection each.
"""

import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from her2d.database import open_database
from her2d.intake import Completeness, Inbox, Job, JobQueue, JobState, Verdict, Watcher
from her2d.ops import held_by_us
from her2d.pipeline import SlideCancelledError
from her2d.processing import DuplicateScanError, FileChangedError, SlideProcessor, open_processor
from her2d.settings import Settings
from her2d.slides import SlideError, check_integrity

log = structlog.get_logger(__name__)

_TICK_S = 0.5
_IDLE_S = 0.5
_AFTER_DATABASE_ERROR_S = 5.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Two steps of stopping: take nothing new, then give up what is under way."""

    requested: threading.Event
    cancel: threading.Event


class Daemon:
    """Runs until asked to stop.

    Raises from `run`:
        AlreadyRunningError: another daemon works on the same database.
        BundleError, EngineError, DatabaseError: it cannot start; the sentence says why.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = Stop(threading.Event(), threading.Event())
        self._wake = threading.Event()

    def stop(self) -> None:
        """Ask for a clean stop; safe to call from a signal handler."""
        self._stop.requested.set()
        self._wake.set()

    def run(self) -> None:
        settings = self._settings
        with held_by_us(settings.results.database):
            db = open_database(settings.results.database)
            jobs = JobQueue(db)
            if recovered := jobs.recover():
                log.warning("jobs_recovered", jobs=recovered)
            with open_processor(settings) as processor:
                workers = [
                    threading.Thread(
                        target=_work,
                        args=(settings, processor, self._stop),
                        name=f"her2d-worker-{number}",
                    )
                    for number in range(settings.pipeline.slides_in_flight)
                ]
                for worker in workers:
                    worker.start()
                log.info(
                    "daemon_ready",
                    inboxes=[str(inbox) for inbox in settings.intake.inboxes],
                    bundle=processor.bundle.manifest.name,
                    bundle_version=processor.bundle.manifest.version,
                    backend=processor.backend,
                )
                try:
                    self._watch(jobs)
                finally:
                    self._drain(workers)
            db.close()
        log.info("daemon_stopped")

    def _watch(self, jobs: JobQueue) -> None:
        settings = self._settings.intake
        inbox = Inbox(jobs, settings, check_slide)
        watcher = Watcher(self._wake)
        next_sweep = 0.0
        try:
            while not self._stop.requested.is_set():
                try:
                    if time.monotonic() >= next_sweep:
                        self._keep_watching(watcher)
                        inbox.sweep()
                        next_sweep = time.monotonic() + settings.sweep_s
                    for path in watcher.take():
                        inbox.look(path)
                    inbox.settle()
                except sqlite3.Error as error:
                    log.error("database_unavailable", reason=str(error))
                    self._stop.requested.wait(_AFTER_DATABASE_ERROR_S)
                self._wake.wait(_TICK_S)
                self._wake.clear()
        finally:
            watcher.stop()

    def _keep_watching(self, watcher: Watcher) -> None:
        for inbox in self._settings.intake.inboxes:
            if not inbox.is_dir():
                watcher.forget(inbox)
                continue
            try:
                if watcher.watch(inbox):
                    log.info("inbox_watched", inbox=str(inbox))
            except OSError as error:
                # The sweep goes on finding files, only later.
                log.warning("inbox_events_unavailable", inbox=str(inbox), reason=str(error))

    def _drain(self, workers: list[threading.Thread]) -> None:
        self._stop.requested.set()
        log.info("daemon_stopping")
        deadline = time.monotonic() + self._settings.pipeline.drain_s
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._stop.cancel.set()
        for worker in workers:
            worker.join()


def check_slide(path: Path) -> Verdict:
    """The slides room's structural check in the words of intake."""
    found = check_integrity(path)
    return Verdict(Completeness(found.completeness.value), found.reason)


def _work(settings: Settings, processor: SlideProcessor, stop: Stop) -> None:
    db = open_database(settings.results.database)
    jobs = JobQueue(db)
    try:
        while not stop.requested.is_set():
            try:
                job = jobs.claim()
                if job is None:
                    stop.requested.wait(_IDLE_S)
                else:
                    with structlog.contextvars.bound_contextvars(job_id=job.id, file=job.path.name):
                        _run_job(settings, processor, jobs, job, stop)
            except sqlite3.Error as error:
                log.error("database_unavailable", reason=str(error))
                stop.requested.wait(_AFTER_DATABASE_ERROR_S)
    finally:
        db.close()


def _run_job(
    settings: Settings, processor: SlideProcessor, jobs: JobQueue, job: Job, stop: Stop
) -> None:
    log.info("slide_started", attempt=job.attempts)
    try:
        result = processor.process_job(jobs.database, job, cancel=stop.cancel)
    except DuplicateScanError as found:
        jobs.duplicate(job.id, found.slide_id, found.content_hash)
        log.info("slide_duplicate", slide_id=found.slide_id)
    except SlideError as error:
        jobs.quarantine(job.id, str(error))
        log.warning("slide_quarantined", reason=str(error))
    except SlideCancelledError:
        jobs.give_back(job.id)
        log.info("slide_given_back")
    except FileChangedError as error:
        jobs.settle_again(job.id, str(error))
        log.warning("slide_changed_while_read")
    except FileNotFoundError as error:
        if job.path.exists():
            _retry(settings, jobs, job, error)
        else:
            jobs.vanished(job.id)
            log.warning("slide_vanished")
    except Exception as error:  # noqa: BLE001  the daemon outlives whatever one slide brings about
        _retry(settings, jobs, job, error)
    else:
        log.info(
            "slide_finished",
            slide_id=result.slide_id,
            her2_status=result.her2_status,
            high_expression_percent=result.high_expression_percent,
            elapsed_s=result.elapsed_s,
        )


def _retry(settings: Settings, jobs: JobQueue, job: Job, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"
    state = jobs.retry_later(job, reason, max_attempts=settings.intake.max_attempts)
    event = "slide_quarantined" if state is JobState.QUARANTINED else "slide_failed"
    log.error(event, attempt=job.attempts, exc_info=error)
