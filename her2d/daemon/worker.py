"""A worker thread: claim a job, hash, score and record its slide, and end the job.

A slide is hashed beside its tiles. It is hashed before them where it may be a duplicate, which is
not scored, and after an interruption, which counts against a file only once all of it was read.
"""

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from her2d.daemon.shutdown import StopSignals
from her2d.daemon.storage_probe import StorageProbe
from her2d.db.connection import open_existing
from her2d.db.integrity import is_damage
from her2d.db.retry import until_written
from her2d.intake.discovery import ScanRules
from her2d.monitoring.metrics import Metrics
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.duplicates import ContentLocks, follow, refuse_duplicate
from her2d.processing.errors import (
    ClaimLostError,
    DuplicateScanError,
    FileChangedError,
    UnreadableStorageError,
)
from her2d.processing.failure_history import FailureHistory, on_node
from her2d.processing.identity import Scan, open_scan
from her2d.processing.processor import Processor, ScoredSlide
from her2d.processing.recorder import CompleteRun, Recorder
from her2d.processing.records import RunClock
from her2d.processing.retry_policy import Action, Decision, JobFile, decide, failed_reader
from her2d.processing.second_reader import second_reader
from her2d.queue.claims import ClaimRegistry
from her2d.queue.job import THIS_MACHINE, Job, JobState
from her2d.queue.store import JobQueue
from her2d.results.history import timings_of_run
from her2d.results.pictures import PicturesMissing
from her2d.results.queries import may_have_result, result_of_run
from her2d.results.records import SlideResult, StepTiming
from her2d.results.renaming import rename_pictures
from her2d.settings import Settings
from her2d.slides.barcode_of_file import barcode_of_file
from her2d.system.filesystems import is_missing_or_empty
from her2d.system.loggers import get_logger
from her2d.system.memory import give_back_free_memory

log = get_logger(__name__)

_IDLE_S = 0.5
_AFTER_ERROR_S = 5.0
_BUSY_TIMEOUT_S = 5.0
_LEVELS = logging.getLevelNamesMapping()


class Worker:
    """Claims jobs one by one, in its own thread and through its own database connection."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        processor: Processor,
        recorder: Recorder,
        contents: ContentLocks,
        metrics: Metrics,
        signals: StopSignals,
        claims: ClaimRegistry,
        storage: StorageProbe,
        failures: FailureHistory | None = None,
    ) -> None:
        self._settings = settings
        self._processor = processor
        self._recorder = recorder
        self._contents = contents
        self._metrics = metrics
        self._signals = signals
        self._claims = claims
        self._storage = storage
        self._failures = failures or FailureHistory()

    def run(self) -> None:
        """Work until a stop is requested; after an error, continue with a new connection."""
        while not self._signals.stop_requested.is_set():
            try:
                database = self._settings().results.database
                db = open_existing(database, busy_timeout_s=_BUSY_TIMEOUT_S)
                with contextlib.closing(db):
                    self._work(JobQueue(db))
            except sqlite3.Error as error:
                self._report_damage(error)
                log.warning(
                    "worker_database_unavailable", reason=str(error), again_in_s=_AFTER_ERROR_S
                )
                self._signals.stop_requested.wait(_AFTER_ERROR_S)
            except Exception:
                # The supervisor queues the job of this worker again.
                log.exception("worker_failed")
                self._metrics.unforeseen.labels("worker").inc()
                self._signals.stop_requested.wait(_AFTER_ERROR_S)

    def _work(self, jobs: JobQueue) -> None:
        while not self._signals.stop_requested.is_set():
            # What the processor has no room for stays in the queue.
            room = 0 if self._signals.paused.is_set() else self._processor.capacity
            job = self._claims.claim(jobs, room) if room else None
            if job is not None:
                try:
                    self._end(jobs, job)
                finally:
                    self._claims.release(job)
                give_back_free_memory()
            else:
                self._signals.stop_requested.wait(_IDLE_S)

    def _end(self, jobs: JobQueue, job: Job) -> None:
        """Process a claimed job and end it."""
        bound = {"job_id": job.id, "attempt_id": job.attempt_id, "file": job.path.name}
        with structlog.contextvars.bound_contextvars(**bound):
            log.info("slide_started", attempt=job.attempts)
            begun = time.monotonic()
            try:
                result = self._process(jobs, job, begun)
            except Exception as error:  # noqa: BLE001  no slide may end the daemon
                cause = error
                self._report_damage(error)
                # Decided once: each time the decision is asked for, a failure is noted.
                decision = self._decide(job, error)
                until_written(lambda: self._apply(jobs, job, decision, cause), self._signals.cancel)
            else:
                self._failures.scored(job.id, begun)
                self._count(job, result, timings_of_run(jobs.database, result.run_id))

    def _report_damage(self, error: Exception) -> None:
        if is_damage(error):
            log.error("database_damaged", reason=str(error))
            self._signals.database_damaged.set()

    def _process(self, jobs: JobQueue, job: Job, begun: float) -> SlideResult:
        """Hash, score and record a claimed job, which is done afterwards.

        While the database is busy, full or not writable, it waits until a stop cancels the slide.

        Raises:
            Exception: any error that `her2d.processing.retry_policy` has a rule for.
        """
        self._require_reachable(job)
        with open_scan(job.path, job.inbox_around) as scan:
            if not scan.state.is_unchanged(job.file_state):
                raise FileChangedError(f"{job.path.name} changed after it had settled.")
            run_id = self._score_and_record(jobs, job, scan, begun)
        return result_of_run(jobs.database, run_id)

    def _score_and_record(self, jobs: JobQueue, job: Job, scan: Scan, begun: float) -> int:
        """Hash, score and record the open file of a claimed job, and return the run's id."""
        cancel = self._signals.cancel

        def heartbeat() -> None:
            self._claims.heartbeat(job)

        def continue_or_cancel() -> None:
            heartbeat()
            if cancel.is_set():
                raise SlideCancelledError("The slide was cancelled.")

        def hashed(digest: str) -> None:
            self._failures.read(job.id, self._device_of(job), begun)
            clock.step_ended("hash")
            until_written(
                lambda: jobs.store_content_hash(job, digest, scan.state.ctime_ns), cancel, heartbeat
            )
            self._refuse_duplicate(jobs, digest)

        with second_reader(scan, job.unreadable_on):
            first_block = scan.first_block()
        # Copies that arrive together are processed in turn, and so is what may be a copy.
        with self._contents.hold(f"{scan.state.size} {first_block}", continue_or_cancel):
            clock = RunClock(job.queued_at)
            if self._is_read_here_first(jobs, job, scan, first_block):
                with second_reader(scan, job.unreadable_on):
                    digest = self._processor.content_hash(scan, continue_or_cancel)
                hashed(digest)
                scored = self._processor.score(
                    scan,
                    inbox=job.inbox,
                    cancel=cancel,
                    progress=lambda *_: heartbeat(),
                    content_hash=digest,
                    unreadable_on=job.unreadable_on,
                )
            else:
                digest, scored = self._processor.hash_and_score(
                    scan,
                    hashed,
                    on_hash_progress=continue_or_cancel,
                    inbox=job.inbox,
                    cancel=cancel,
                    progress=lambda *_: heartbeat(),
                    unreadable_on=job.unreadable_on,
                )
            self._refuse_io_errors(job, scored)
            complete = self._recorder.draw(scored, digest, clock)
            return until_written(lambda: self._record(jobs, job, complete), cancel, heartbeat)

    def _is_read_here_first(self, jobs: JobQueue, job: Job, scan: Scan, first_block: str) -> bool:
        """Return whether this machine reads the file to its end before it is scored.

        After a node could not read it, this machine tells whether the file is the cause. After it
        could not either, the nodes that have not tried come first.
        """
        if job.hash_first or self._may_be_duplicate(jobs, scan, first_block):
            return True
        tried = set(job.unreadable_on)
        return bool(tried) and (THIS_MACHINE not in tried or self._processor.nodes <= tried)

    def _may_be_duplicate(self, jobs: JobQueue, scan: Scan, first_block: str) -> bool:
        """Return whether the bundle has a result of what may be the same content."""
        bundle = self._processor.bundle.digest
        return may_have_result(jobs.database, scan.state.size, first_block, bundle)

    def _refuse_duplicate(self, jobs: JobQueue, digest: str) -> None:
        refuse_duplicate(jobs.database, digest, self._processor.bundle.digest)

    def _refuse_io_errors(self, job: Job, scored: ScoredSlide) -> None:
        """Raise UnreadableStorageError for I/O errors while attempts are left.

        A share that goes away fails as a bad sector does, so another attempt may read all tiles.
        """
        outcome = scored.outcome
        if outcome.has_io_errors and job.attempts < self._settings().intake.max_attempts:
            raise UnreadableStorageError(
                f"The storage of {job.path.name} returned errors: {outcome.unreadable_reason}."
            )

    def _record(self, jobs: JobQueue, job: Job, complete: CompleteRun) -> int:
        """Check the claim, look for another result and store this one, in one transaction."""
        with jobs.transaction():
            if not jobs.holds_claim(job):
                raise ClaimLostError(f"Another worker has claimed job {job.id}.")
            self._refuse_duplicate(jobs, complete.slide.content_hash)
            return self._recorder.record(jobs.database, complete, job.id)

    def _require_reachable(self, job: Job) -> None:
        """Raise OSError if the job's storage is away.

        Waiting for storage that does not answer would block the worker. The folder of a share that
        is not mounted is empty, and no sweep would find the scans of a back-fill again.
        """
        if not self._storage.is_reachable(job.path):
            raise TimeoutError(errno.ETIMEDOUT, "its storage does not answer")
        if job.backfill_id is not None and job.inbox is not None and is_missing_or_empty(job.inbox):
            raise OSError(errno.ENODEV, f"{job.inbox} is empty; mount its share")

    def _decide(self, job: Job, error: Exception) -> Decision:
        """Note that a job ended without a result, and decide its outcome by the retry policy."""
        decision = decide(
            error,
            self._file_of(job, self._settings().intake.max_attempts),
            lambda kind: self._failures.failed(job.id, kind, self._device_of(job), on_node(error)),
        )
        if decision.is_unforeseen:
            self._metrics.unforeseen.labels("slide").inc()
        return decision

    def _apply(self, jobs: JobQueue, job: Job, decision: Decision, error: Exception) -> None:
        """Apply the retry policy's decision to a job that ended without a result."""
        most = self._settings().intake.max_attempts
        reason, event = decision.reason, decision.event
        trace = error if decision.is_unforeseen else None
        of_slide: dict[str, int] = {}
        barcode = self._barcode(job, decision)
        self._note_reader(jobs, job, error)
        match decision.action:
            case Action.RETRY:
                state = jobs.retry_later(job, reason, max_attempts=most, barcode=barcode)
                event = "slide_quarantined" if state is JobState.QUARANTINED else event
                trace = error
            case Action.POSTPONE if decision.is_counted:
                jobs.postpone_unforeseen(job, reason, decision.wait_s)
            case Action.POSTPONE:
                jobs.postpone(job, reason, decision.wait_s)
            case Action.SETTLE:
                jobs.settle_again(job, reason)
            case Action.QUARANTINE:
                jobs.quarantine(job, reason, barcode=barcode)
            case Action.GIVE_BACK:
                jobs.give_back(job)
            case Action.VANISH:
                jobs.mark_vanished(job)
            case Action.DUPLICATE:
                of_slide = {"slide_id": self._end_as_duplicate(jobs, job, error)}
            case Action.INTERRUPT:
                jobs.requeue_interrupted(job, by_storage=False)
            case Action.NOTHING:
                pass
        log.log(
            _LEVELS[decision.level.upper()],
            event,
            reason=reason,
            action=decision.action.value,
            attempt=job.attempts,
            exc_info=trace,
            **of_slide,
        )
        if decision.action is Action.INTERRUPT:
            self._signals.device_lost.set()
            self._signals.stop_requested.set()

    def _file_of(self, job: Job, max_attempts: int) -> JobFile:
        rules = ScanRules.of(self._settings().intake)
        return JobFile(
            job.path,
            is_swept=job.backfill_id is None and rules.finds(job.path, job.inbox),
            unforeseen=job.unforeseen,
            unreadable_on=job.unreadable_on,
            is_last_attempt=job.attempts >= max_attempts,
        )

    @staticmethod
    def _note_reader(jobs: JobQueue, job: Job, error: Exception) -> None:
        if (machine := failed_reader(error)) is not None:
            jobs.note_unreadable_on(job, machine)

    def _device_of(self, job: Job) -> int | None:
        """Return the file system of a job's folder, `st_dev` of stat(2); None if it is not known.

        Asking storage that does not answer would block the worker.
        """
        if not self._storage.is_reachable(job.path):
            return None
        try:
            return job.path.parent.stat().st_dev
        except OSError:
            return None

    def _barcode(self, job: Job, decision: Decision) -> str | None:
        """Return the barcode of a slide that failed, for its event; None if it cannot be read."""
        if decision.action not in (Action.RETRY, Action.QUARANTINE):
            return None
        return barcode_of_file(job.path) if self._storage.is_reachable(job.path) else None

    def _end_as_duplicate(self, jobs: JobQueue, job: Job, error: Exception) -> int:
        """End the job, and return the id of the slide that has the result."""
        assert isinstance(error, DuplicateScanError)
        # First, so that a daemon that is killed between the two follows when it tries again.
        follow(jobs, error.slide_id, job, is_within_reach=self._storage.is_reachable)
        jobs.mark_duplicate(job, error.slide_id, error.content_hash)
        try:
            if rename_pictures(jobs.database, error.slide_id):
                log.info("slide_renamed", slide_id=error.slide_id)
        except (OSError, PicturesMissing) as problem:
            log.warning("heatmap_not_renamed", slide_id=error.slide_id, reason=str(problem))
        return error.slide_id

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
        if result.reason_code is not None:
            metrics.indeterminate.labels(result.reason_code.value).inc()
        metrics.processing.observe(result.elapsed_s)
        # By attention a tumour tile is neither weak nor strong.
        strong = result.tiles_strong
        background = result.tiles_total - result.tiles_tissue - result.tiles_unreadable
        for tile_class, tiles in (
            ("background", background),
            ("non_tumor", result.tiles_tissue - result.tiles_tumor),
            ("weak", 0 if strong is None else result.tiles_tumor - strong),
            ("strong", strong or 0),
            ("tumor", result.tiles_tumor if strong is None else 0),
            ("unreadable", result.tiles_unreadable),
        ):
            metrics.tiles.labels(tile_class).inc(tiles)
        log.info(
            "slide_finished",
            slide_id=result.slide_id,
            run_id=result.run_id,
            her2_status=result.her2_status,
            high_expression_percent=result.high_expression_percent,
            positive_probability=result.positive_probability,
            elapsed_s=result.elapsed_s,
        )
