"""`her2d run`: wires intake, pipeline, results and ops together, and outlives every bad file.

One thread watches the inboxes and queues what is finished. As many workers as slides may be in
flight each claim a job, score its slide and record the result. All they share is the pipeline and
the database, through a connection each.
"""

import os
import sqlite3
import threading
import time
from pathlib import Path

import structlog

from her2d import __version__
from her2d.database import DatabaseError, open_database, open_readonly
from her2d.inference import DeviceLostError
from her2d.intake import Completeness, Inbox, JobQueue, Verdict, Watcher
from her2d.notifications import Notifier
from her2d.ops import Metrics, OpsServer, held_by_us
from her2d.processing import SlideProcessor, open_processor
from her2d.settings import Settings
from her2d.slides import check_integrity
from her2d.telemetry import last_success, read_daemon
from her2d.worker import Stop, Worker

log = structlog.get_logger(__name__)

_TICK_S = 0.5
_AFTER_DATABASE_ERROR_S = 5.0
_UNHEALTHY_AFTER_S = 120.0


class Daemon:
    """Runs until asked to stop.

    Raises from `run`:
        AlreadyRunningError: another daemon works on the same database.
        BundleError, EngineError, DatabaseError: it cannot start; the sentence says why.
        OSError: the port of `[ops]` cannot be had.
        DeviceLostError: it stopped, with every job back in the queue, for its GPU is lost to it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = Stop()
        self._wake = threading.Event()
        self._metrics = Metrics()
        self._watched_at = time.monotonic()

    def stop(self) -> None:
        """Ask for a clean stop; safe to call from a signal handler."""
        self._stop.requested.set()
        self._wake.set()

    def run(self) -> None:
        settings = self._settings
        with held_by_us(settings.results.database):
            db = open_database(settings.results.database)
            jobs = JobQueue(db)
            if (succeeded := last_success(db)) is not None:
                self._metrics.last_success.set(succeeded)
            if recovered := jobs.recover():
                log.warning("jobs_recovered", jobs=recovered)
            with (
                open_processor(settings, self._metrics.observe_batch) as processor,
                self._serve(processor) as server,
            ):
                workers = self._start_workers(processor)
                log.info(
                    "daemon_ready",
                    inboxes=[str(inbox) for inbox in settings.intake.inboxes],
                    bundle=processor.bundle.manifest.name,
                    bundle_version=processor.bundle.manifest.version,
                    backend=processor.backend,
                    port=server.port,
                )
                notifier = self._start_notifier()
                try:
                    self._watch(jobs)
                finally:
                    self._drain(workers)
                    if notifier is not None:
                        notifier.join()
            db.close()
        log.info("daemon_stopped")
        if self._stop.device_lost.is_set():
            raise DeviceLostError("The GPU is lost to this process; start it again to go on.")

    def _start_workers(self, processor: SlideProcessor) -> list[threading.Thread]:
        workers = [
            threading.Thread(
                target=Worker(self._settings, processor, self._metrics, self._stop).run,
                name=f"her2d-worker-{number}",
            )
            for number in range(self._settings.pipeline.slides_in_flight)
        ]
        for worker in workers:
            worker.start()
        return workers

    def _start_notifier(self) -> threading.Thread | None:
        """The webhook's thread, where there is a webhook."""
        settings = self._settings
        if settings.notify.url is None:
            return None
        notifier = Notifier(settings.notify, settings.results.database, self._stop.requested)
        thread = threading.Thread(target=notifier.run, name="her2d-notifier")
        thread.start()
        return thread

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
                    self._watched_at = time.monotonic()
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

    def _serve(self, processor: SlideProcessor) -> OpsServer:
        manifest = processor.bundle.manifest
        self._metrics.build.info(
            {
                "version": __version__,
                "backend": processor.backend,
                "bundle": manifest.name,
                "bundle_version": manifest.version,
            }
        )
        self._metrics.read_from(lambda: read_daemon(self._settings, processor.pipeline))
        ops = self._settings.ops
        return OpsServer(
            ops.host,
            ops.port,
            self._metrics.registry,
            healthy=self._trouble,
            ready=self._not_ready,
        )

    def _trouble(self) -> str | None:
        """Alive means that the inboxes were looked at a moment ago."""
        silent = time.monotonic() - self._watched_at
        return (
            f"The inboxes were last looked at {silent:.0f} s ago."
            if (silent > _UNHEALTHY_AFTER_S)
            else None
        )

    def _not_ready(self) -> str | None:
        for inbox in self._settings.intake.inboxes:
            if not os.access(inbox, os.R_OK | os.X_OK):
                return f"The inbox {inbox} cannot be read."
        database = self._settings.results.database
        if not os.access(database, os.W_OK):
            return f"The database {database} cannot be written."
        try:
            open_readonly(database).close()
        except DatabaseError as error:
            return str(error)
        return None


def check_slide(path: Path) -> Verdict:
    """The slides room's structural check in the words of intake."""
    found = check_integrity(path)
    return Verdict(Completeness(found.completeness.value), found.reason)
