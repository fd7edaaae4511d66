"""`her2d run`: the service that joins intake, pipeline, results and monitoring.

One thread watches the inboxes and queues finished scans. It also runs the supervisor of the other
threads: as many workers as slides may be in flight, each of which claims a job, scores its slide
and records the result, and one thread that moves finished originals out of the inboxes. The
threads share the pipeline and the database, through one connection each.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database

from her2d import __version__
from her2d.bundle.loading import load_bundle
from her2d.bundle.site_calibration import with_calibration
from her2d.daemon.database_watch import DatabaseWatch, damaged
from her2d.daemon.intake_loop import IntakeLoop
from her2d.daemon.latest import Latest
from her2d.daemon.ops_port import OpsPort
from her2d.daemon.readiness import is_overdue, why_not_ready, why_unhealthy
from her2d.daemon.readings import Outcomes, read_daemon, read_memory
from her2d.daemon.reload import merged
from her2d.daemon.reload_channel import Outcome, answering
from her2d.daemon.results_probe import ResultsProbe
from her2d.daemon.shutdown import StopSignals
from her2d.daemon.start import StartWatch, watching_start
from her2d.daemon.storage_probe import StorageProbe
from her2d.daemon.supervisor import Supervisor
from her2d.db.absence import require_not_lost
from her2d.db.connection import (
    DatabaseError,
    create_if_missing,
    leave_readable,
    open_database,
)
from her2d.db.integrity import is_damage
from her2d.db.lock import hold_daemon_lock, hold_database
from her2d.db.migrate import migrate
from her2d.db.place import require_local, share_doubt
from her2d.db.retry import WriteCancelledError, until_written
from her2d.inference.engine import DeviceLostError
from her2d.monitoring.http import OpsServer
from her2d.monitoring.log_queue import lines_dropped
from her2d.monitoring.metrics import Metrics
from her2d.monitoring.reading import Reading
from her2d.monitoring.sd_notify import Notifier
from her2d.pipeline.evaluability import ReasonCode
from her2d.processing.processor import Processor, open_processor
from her2d.processing.recorder import Recorder
from her2d.queue.claims import StalledJob
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import Settings, SettingsError
from her2d.system.files import remove_leftovers
from her2d.system.gpus import Gpus
from her2d.system.loggers import get_logger
from her2d.webhook.sender import WebhookSender
from her2d.webhook.sent_mark import report_lost_events

if TYPE_CHECKING:
    from her2d.cluster.processor import ClusterProcessor

log = get_logger(__name__)

_TICK_S = 0.5
_STATUS_S = 5.0
_BUSY_TIMEOUT_S = 5.0
_WEBHOOK_S = 15.0
_SCRAPE_WAITS_S = 1.0  # longer than the database takes, if nothing locks it


class Daemon:
    """The daemon. It runs until a stop is requested.

    `run` raises:
        AlreadyRunningError: another daemon works on the same database.
        BundleError, EngineError: the daemon cannot start; the sentence says why.
        DatabaseError: the database cannot be opened, or was removed or replaced meanwhile.
        DeviceLostError: the GPU is lost to this process. All jobs are in the queue again.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings] | None = None) -> None:
        """Prepare a daemon; `run` starts it.

        Args:
            settings: the settings to start with.
            load: reads the settings again at a reload; may raise SettingsError.
        """
        self._settings = settings
        self._load = load or (lambda: settings)
        self._signals = StopSignals()
        self._reload = threading.Event()
        self._wake = threading.Event()
        self._metrics = Metrics(ReasonCode)
        self._gpus = Gpus()
        self._notifier = Notifier()
        self._checked_at = time.monotonic()
        self._next_status = 0.0
        self._problem: str | None = None
        self._passes_fail = False
        self._cluster: ClusterProcessor | None = None
        self._supervisor: Supervisor | None = None
        self._ops_port: OpsPort | None = None
        self._intake_loop: IntakeLoop | None = None
        self._is_ready = threading.Event()

    @property
    def is_ready(self) -> bool:
        """Whether the start is complete."""
        return self._is_ready.is_set()

    def stop(self) -> None:
        """Request a graceful stop, the second time a quick one. Safe in a signal handler."""
        self._signals.request_stop()
        self._wake.set()

    def reload(self) -> None:
        """Request that the settings be read again. Safe in a signal handler."""
        self._reload.set()
        self._wake.set()

    def run(self) -> None:
        with ExitStack() as resources:
            try:
                with watching_start(self._notifier) as start:
                    parts = self._start(start, resources)
            except WriteCancelledError:
                log.info("daemon_stopped_at_start")
                return
            self._work(*parts)
        log.info("daemon_stopped")
        if self._signals.device_lost.is_set():
            raise DeviceLostError("The GPU is lost to this process. Restart her2d.")

    def _start(
        self, start: StartWatch, resources: ExitStack
    ) -> tuple[JobQueue, Processor, Recorder, StorageProbe, DatabaseWatch]:
        """Open all that the daemon works with; `resources` closes it.

        Raises WriteCancelledError if a stop is requested while the database is locked.
        """
        intake, results = self._settings.intake, self._settings.results
        start.step("it accesses the folders of heatmaps and backups")
        require_not_lost(results.database, results.heatmaps, results.backups)
        start.step(f"it opens the database {results.database}, which another process may lock")
        db, watch = self._open_database(resources)
        jobs = JobQueue(db)
        if (lost := self._lost_events(db)) is not None:
            log.error("sent_events_lost", reason=lost)
        for job in self._recovered(jobs):
            log.warning(
                "slide_recovered", job_id=job.id, attempt_id=job.attempt_id, file=job.path.name
            )
        start.step("it accesses the folders of heatmaps, backups, inboxes and archives")
        _remove_incomplete_pictures(results.heatmaps)
        storage = StorageProbe(intake.inboxes, results.backups, intake.archive_folders)
        resources.callback(storage.close)
        start.step("it loads the bundle and opens the back end")
        processor = self._open_processor(resources)
        results_probe = ResultsProbe(results)
        resources.callback(results_probe.close)
        self._observe(processor, Outcomes(db), storage, results_probe, resources)
        self._ops_port = OpsPort(lambda: self._open_server(storage, results_probe))
        resources.callback(self._ops_port.close)
        recorder = Recorder(processor.bundle, processor.software, results.heatmaps)
        return jobs, processor, recorder, storage, watch

    def _open_processor(self, resources: ExitStack) -> Processor:
        """Open the bundle's engine, or connect to the cluster; `resources` closes it."""
        settings = self._settings
        bundle = with_calibration(load_bundle(settings.bundle.path), settings.bundle.calibration)
        if not settings.cluster.address:
            return resources.enter_context(
                open_processor(bundle, settings, self._metrics.observe_batch)
            )
        # Imported here, since most sites have no cluster.
        from her2d.cluster.processor import open_cluster_processor

        self._cluster = resources.enter_context(
            open_cluster_processor(bundle, lambda: self._settings, self._signals.cancel)
        )
        return self._cluster

    def _open_database(self, resources: ExitStack) -> tuple[Database, DatabaseWatch]:
        """Lock, create or migrate, and open the database; `resources` closes it."""
        results = self._settings.results
        database = results.database
        require_local(database)
        if (doubt := share_doubt(database)) is not None:
            log.warning("database_perhaps_on_share", reason=doubt)
        resources.enter_context(hold_daemon_lock(database))
        if not database.exists():
            create_if_missing(database)
            log.info("database_created", database=str(database))
        locked = resources.enter_context(hold_database(database))
        if (copy := migrate(database)) is not None:
            log.info("database_migrated", copy=str(copy))
        # After the database is closed, and before its locks are released.
        resources.callback(_leave_readable, database)
        db = open_database(database, busy_timeout_s=_BUSY_TIMEOUT_S)
        resources.callback(db.close)
        return db, DatabaseWatch(locked, db)

    def _lost_events(self, db: Database) -> str | None:
        """Return a sentence if the webhook was sent events that the database lacks."""
        database = self._settings.results.database
        try:
            return until_written(
                lambda: report_lost_events(db, database), self._signals.stop_requested
            )
        except OSError as error:
            log.warning("webhook_note_not_read", reason=str(error))
            return None

    def _recovered(self, jobs: JobQueue) -> list[Job]:
        """Queue the jobs again that the last daemon left running.

        Raises:
            DatabaseError: the database is damaged.
        """
        try:
            return until_written(jobs.recover, self._signals.stop_requested)
        except sqlite3.Error as error:
            if is_damage(error):
                raise damaged(self._settings.results.database, str(error)) from error
            raise

    def _work(
        self,
        jobs: JobQueue,
        processor: Processor,
        recorder: Recorder,
        storage: StorageProbe,
        watch: DatabaseWatch,
    ) -> None:
        supervisor = self._supervisor = Supervisor(
            lambda: self._settings, processor, recorder, self._metrics, self._signals, storage
        )
        intake_loop = IntakeLoop(jobs, self._settings, self._wake, self._signals.paused, storage)
        self._intake_loop = intake_loop
        log.info(
            "daemon_ready",
            inboxes=[str(inbox) for inbox in self._settings.intake.inboxes],
            bundle=processor.bundle.manifest.name,
            bundle_version=processor.bundle.manifest.version,
            calibration=signed.digest if (signed := processor.bundle.calibration) else None,
            backend=processor.software.backend,
            port=self._ops_port.port if self._ops_port is not None else None,
        )
        settings = self._settings
        webhook_sender = WebhookSender(
            settings.webhook, settings.results.database, self._signals.stop_requested
        )
        self._is_ready.set()
        self._notifier.ready("Started.")
        try:
            while not self._signals.stop_requested.is_set():
                webhook_sender.check()
                self._check_ops_port()
                self._pass(jobs, supervisor, intake_loop, watch)
                self._wake.wait(_TICK_S)
                self._wake.clear()
        except DatabaseError:
            self._signals.cancel.set()  # nothing can be recorded any more
            raise
        finally:
            self._signals.stop_requested.set()
            log.info("daemon_stopping")
            self._notifier.stopping(f"Finishing {supervisor.active} slides.")
            intake_loop.close()
            supervisor.drain()
            webhook_sender.join(_WEBHOOK_S)

    def _check_ops_port(self) -> None:
        if self._ops_port is not None:
            self._ops_port.check()

    def _pass(
        self,
        jobs: JobQueue,
        supervisor: Supervisor,
        intake_loop: IntakeLoop,
        watch: DatabaseWatch,
    ) -> None:
        """Do one pass of the daemon's main thread.

        systemd's watchdog is notified only of progress, so that it restarts a daemon whose pass or
        slide hangs.

        Raises:
            DatabaseError: the database is lost or damaged, and the daemon must end.
        """
        stalled = supervisor.stalled()
        try:
            if self._signals.database_damaged.is_set():
                raise watch.damage("see the log")
            watch.check()
            if self._reload.is_set():
                self._reload.clear()
                self._apply(intake_loop)
            intake_loop.run_once()
            supervisor.check(jobs)
            if self._cluster is not None:
                is_paused = self._signals.paused.is_set()
                due = supervisor.active if is_paused else jobs.due(self._settings.workers)
                self._cluster.note_backlog(due)
            self._problem = intake_loop.problem or _stalled_problem(stalled)
            self._checked_at = time.monotonic()
            self._report_status(jobs, supervisor)
            self._passes_fail = False
        except DatabaseError:
            raise
        except sqlite3.Error as error:
            if is_damage(error):
                raise watch.damage(str(error)) from error
            if not self._passes_fail:
                log.error("database_unavailable", reason=str(error))
            self._passes_fail = True
            self._problem = f"The database is unavailable: {error}."
        except Exception as error:
            # No file may end the daemon: the next pass continues with the other files.
            self._metrics.unforeseen.labels("pass").inc()
            if not self._passes_fail:
                log.exception("daemon_pass_failed")
            self._passes_fail = True
            # Anyone may read this sentence, and the error's own may hold a patient's name.
            self._problem = f"The inboxes cannot be checked: {type(error).__name__}, see the log."
        if stalled is None:
            # Another process may lock the database, but no longer than a slide may stall, because
            # this process itself may hold the lock.
            if time.monotonic() - self._checked_at < self._settings.intake.stalled_after_s:
                self._notifier.alive()
        else:
            self._problem = _stalled_problem(stalled)

    def _apply(self, intake_loop: IntakeLoop) -> None:
        self._notifier.reloading()
        status = "The settings could not be read again."
        try:
            with answering() as answer:
                try:
                    change = merged(self._settings, self._load())
                except SettingsError as error:
                    log.error("settings_refused", reason=str(error))
                    answer(Outcome(refused=str(error)))
                    status = f"New settings were refused: {error}"
                else:
                    self._settings = change.settings
                    intake_loop.apply(change.settings)
                    logging.getLogger().setLevel(change.settings.ops.log_level.upper())
                    log.info("settings_reloaded", changed=change.changed)
                    if change.waiting:
                        log.warning("settings_wait_for_restart", keys=change.waiting)
                    answer(Outcome(waiting=change.waiting))
                    status = "Settings were read again."
        finally:  # systemd waits for this, and would end a daemon that does not send it
            self._notifier.ready(status)

    def _report_status(self, jobs: JobQueue, supervisor: Supervisor) -> None:
        if time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + _STATUS_S
        counts = jobs.counts()
        waiting = counts[JobState.QUEUED] + counts[JobState.FAILED]
        forbidden = self._intake_loop.forbidden if self._intake_loop is not None else 0
        status = (
            f"{supervisor.active} slides in flight, {waiting} waiting,"
            f" {max(0, counts[JobState.SETTLING] - forbidden)} not finished by the scanner,"
            f"{f' {forbidden} that may not be read,' if forbidden else ''}"
            f" {counts[JobState.QUARANTINED]} quarantined."
        )
        problem = self._all_problems()
        self._notifier.status(f"{problem} {status}" if problem else status)

    def _observe(
        self,
        processor: Processor,
        outcomes: Outcomes,
        storage: StorageProbe,
        results: ResultsProbe,
        resources: ExitStack,
    ) -> None:
        """Let scrapes read the daemon's values."""
        manifest = processor.bundle.manifest
        self._metrics.build.info(
            {
                "version": __version__,
                "git_commit": processor.software.git_commit or "",
                "backend": processor.software.backend,
                "runtime_version": processor.software.runtime_version,
                "bundle": manifest.name,
                "bundle_version": manifest.version,
                "bundle_digest": processor.bundle.digest,
            }
        )
        latest = Latest(lambda: self._read(processor, outcomes, storage), "her2d-readings")
        resources.callback(latest.close)

        def read() -> Reading:
            reading, age_s = latest.within(_SCRAPE_WAITS_S)
            intake_loop = self._intake_loop
            reading = read_memory(
                reading or Reading(database_readable=False),
                self._settings,
                processor.pipeline,
                storage=storage,
                progress_at=time.time() - self._silent_s,
                intake_paused=self._signals.paused.is_set(),
            )
            return replace(
                reading,
                at=time.time(),
                age_s=age_s,
                forbidden=intake_loop.forbidden if intake_loop is not None else 0,
                watch_restarts=intake_loop.watch_restarts if intake_loop is not None else 0,
                swept_s=intake_loop.swept_s if intake_loop is not None else None,
                examined_s=intake_loop.examined_s if intake_loop is not None else None,
                unused_plans=len(processor.unused_plans),
                unmoved=self._supervisor.unmoved if self._supervisor is not None else 0,
                ready=self._why_not_ready(storage, results) is None,
                parts_ready=self._parts_ready(storage, results),
                results_writable=results.problem() is None,
                log_lines_dropped=lines_dropped(),
                cluster=None if self._cluster is None else self._cluster.reading(),
            )

        self._metrics.read_from(read)

    def _open_server(self, storage: StorageProbe, results: ResultsProbe) -> OpsServer:
        """Raises CannotListenError."""
        ops = self._settings.ops
        return OpsServer(
            ops.host,
            ops.port,
            self._metrics.registry,
            healthy=self._why_unhealthy,
            ready=lambda: self._why_not_ready(storage, results),
            on_drop=self._metrics.clients_dropped.inc,
        )

    def _parts_ready(self, storage: StorageProbe, results: ResultsProbe) -> dict[str, bool]:
        """Return which parts of the daemon work; all of them together are its readiness."""
        intake = self._settings.intake
        supervisor = self._supervisor
        archive_problem = supervisor.archive_problem if supervisor is not None else None
        return {
            "inboxes": all(storage.problem(inbox) is None for inbox in intake.inboxes),
            "disk": not self._signals.paused.is_set(),
            "passes": not self._passes_fail and not is_overdue(self._since_pass_s),
            "slides": self._silent_s < intake.stalled_after_s,
            "results": results.problem() is None,
            "archive": archive_problem is None,
            **({} if self._cluster is None else {"cluster": self._cluster_problem is None}),
        }

    def _why_not_ready(self, storage: StorageProbe, results: ResultsProbe) -> str | None:
        return why_not_ready(self._settings, self._signals, storage, results, self._all_problems())

    @property
    def _since_pass_s(self) -> float:
        return time.monotonic() - self._checked_at

    @property
    def _silent_s(self) -> float:
        """Seconds since the slowest slide in flight made progress; 0 if none is in flight."""
        return self._supervisor.silent_s if self._supervisor is not None else 0.0

    def _read(self, processor: Processor, outcomes: Outcomes, storage: StorageProbe) -> Reading:
        return read_daemon(
            self._settings,
            processor.pipeline,
            outcomes,
            bundle=processor.bundle,
            gpus=self._gpus,
            storage=storage,
            progress_at=time.time() - self._silent_s,
            intake_paused=self._signals.paused.is_set(),
        )

    def _why_unhealthy(self) -> str | None:
        return why_unhealthy(
            since_pass_s=self._since_pass_s,
            silent_s=self._silent_s,
            stalled_after_s=self._settings.intake.stalled_after_s,
        )

    def _all_problems(self) -> str | None:
        """All problems that a person should look at, in sentences.

        A stalled archive does not make the daemon unhealthy, because a restart does not repair
        storage.
        """
        archive = self._supervisor.archive_problem if self._supervisor is not None else None
        port = self._ops_port.problem if self._ops_port is not None else None
        return " ".join(filter(None, (self._problem, self._cluster_problem, archive, port))) or None

    @property
    def _cluster_problem(self) -> str | None:
        return None if self._cluster is None else self._cluster.connection.problem


def _remove_incomplete_pictures(heatmaps: Path) -> None:
    """Try to remove the incomplete pictures of a daemon that was killed."""
    try:
        leftovers = remove_leftovers(heatmaps)
    except OSError as error:
        log.warning("leftovers_kept", reason=str(error))
        return
    if leftovers:
        log.info("leftovers_removed", files=len(leftovers))


def _stalled_problem(stalled: StalledJob | None) -> str | None:
    """Return a sentence without the file's name, since anyone may read it."""
    return (
        f"Job {stalled.job.id} has made no progress for {stalled.seconds:.0f} s."
        if stalled
        else None
    )


def _leave_readable(database: Path) -> None:
    """Let a group of readers read the database while the daemon is stopped."""
    try:
        leave_readable(database)
    except DatabaseError as error:
        log.warning("database_not_left_readable", reason=str(error))
