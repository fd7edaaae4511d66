"""Workers, the archive thread, and their supervisor, which replaces a thread that dies."""

import threading
import time
from collections.abc import Callable

from her2d.daemon.archive_thread import ArchiveThread
from her2d.daemon.shutdown import StopSignals, drain
from her2d.daemon.storage_probe import StorageProbe
from her2d.daemon.worker import Worker
from her2d.monitoring.metrics import Metrics
from her2d.processing.duplicates import ContentLocks
from her2d.processing.failure_history import FailureHistory
from her2d.processing.processor import Processor
from her2d.processing.recorder import Recorder
from her2d.queue.claims import ClaimRegistry, StalledJob
from her2d.queue.store import JobQueue
from her2d.settings import Settings
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_HEARTBEAT_S = 5.0


class Supervisor:
    """Runs a worker for each slide in flight, and the archive thread. Used by one thread."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        processor: Processor,
        recorder: Recorder,
        metrics: Metrics,
        signals: StopSignals,
        storage: StorageProbe,
    ) -> None:
        self._settings = settings
        self._processor = processor
        self._recorder = recorder
        self._contents = ContentLocks()
        self._failures = FailureHistory()
        self._metrics = metrics
        self._signals = signals
        self._storage = storage
        self._claims = ClaimRegistry()
        self._next_heartbeat = 0.0
        self._reported: set[int] = set()
        self._threads = [self._started(number) for number in range(settings().workers)]
        self._archive_thread = ArchiveThread(
            settings,
            signals.stop_requested,
            on_unforeseen=metrics.unforeseen.labels("archive").inc,
        )
        self._archive_is_stalled = False
        self._archiving = self._started_archive_thread()

    @property
    def active(self) -> int:
        """How many slides are being processed."""
        return len(self._claims.ids())

    @property
    def silent_s(self) -> float:
        """Seconds since the slowest slide in flight made progress; 0 if none is in flight."""
        stalled = self._claims.longest_stalled()
        return stalled.seconds if stalled is not None else 0.0

    @property
    def archive_problem(self) -> str | None:
        """A sentence if moving finished files has stalled, else None."""
        return self._archive_thread.problem()

    @property
    def unmoved(self) -> int:
        """How many finished files could not be moved at the last attempt."""
        return self._archive_thread.unmoved

    def check(self, jobs: JobQueue) -> None:
        """Replace threads that died, write heartbeats, and queue orphaned jobs again.

        Raises:
            sqlite3.Error: the database failed; the next call does the rest.
        """
        for number, thread in enumerate(self._threads):
            if not thread.is_alive() and not self._signals.stop_requested.is_set():
                log.error("worker_died", worker=thread.name)
                self._threads[number] = self._started(number)
        self._check_archive_thread()
        if time.monotonic() < self._next_heartbeat:
            return
        jobs.write_heartbeats(self._claims.ids())
        for job in self._claims.orphaned_jobs(jobs):
            state = jobs.requeue_interrupted(job)
            log.warning(
                "slide_requeued",
                job_id=job.id,
                attempt_id=job.attempt_id,
                file=job.path.name,
                state=state.value,
            )
        self._next_heartbeat = time.monotonic() + _HEARTBEAT_S

    def stalled(self) -> StalledJob | None:
        """Return the job that has made no progress for `stalled_after_s`, if any; log it once."""
        stalled = self._claims.longest_stalled()
        if stalled is None or stalled.seconds < self._settings().intake.stalled_after_s:
            self._reported.clear()
            return None
        if stalled.job.id not in self._reported:
            self._reported.add(stalled.job.id)
            log.error(
                "slide_stalled",
                job_id=stalled.job.id,
                attempt_id=stalled.job.attempt_id,
                file=stalled.job.path.name,
                silent_s=round(stalled.seconds),
            )
        return stalled

    def drain(self) -> None:
        """End all threads, as `shutdown.drain` describes."""
        drain(
            self._threads,
            self._archiving,
            self._signals,
            self._settings().pipeline.drain_s,
        )

    def _check_archive_thread(self) -> None:
        if not self._archiving.is_alive() and not self._signals.stop_requested.is_set():
            log.error("archive_thread_died")
            self._archiving = self._started_archive_thread()
        problem = self._archive_thread.problem()
        if problem is not None and not self._archive_is_stalled:
            log.error("archive_stalled", reason=problem)
        self._archive_is_stalled = problem is not None

    def _started(self, number: int) -> threading.Thread:
        worker = Worker(
            self._settings,
            self._processor,
            self._recorder,
            self._contents,
            self._metrics,
            self._signals,
            self._claims,
            self._storage,
            self._failures,
        )
        thread = threading.Thread(target=worker.run, name=f"her2d-worker-{number}", daemon=True)
        thread.start()
        return thread

    def _started_archive_thread(self) -> threading.Thread:
        thread = threading.Thread(
            target=self._archive_thread.run, name="her2d-archive", daemon=True
        )
        thread.start()
        return thread
