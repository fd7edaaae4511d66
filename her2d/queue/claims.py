"""Which jobs the workers hold, and when each last made progress."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue


@dataclass(frozen=True, slots=True)
class StalledJob:
    """A job that has made no progress for `seconds`."""

    job: Job
    seconds: float


class ClaimRegistry:
    """The jobs that workers hold. Shared by the workers and their supervisor."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claiming = threading.Lock()  # held while the database is waited for
        self._lock = threading.Lock()  # held for moments only, for probes and scrapes
        self._held: dict[int, Job] = {}
        self._progress_at: dict[int, float] = {}

    def claim(self, jobs: JobQueue, most: int) -> Job | None:
        """Claim the next job and add it to the registry, unless it holds `most` already.

        Both happen under one lock, so that `orphaned_jobs` does not see a claimed job without its
        worker. The database may be locked meanwhile; the other methods do not wait for it.

        Returns:
            The job, or None if no job is due or too many are held.
        """
        with self._claiming:
            if len(self.ids()) >= most:
                return None
            job = jobs.claim()
            if job is not None:
                with self._lock:
                    self._held[job.id] = job
                    self._progress_at[job.id] = self._clock()
        return job

    def heartbeat(self, job: Job) -> None:
        """Note progress on a job, such as a tile or a megabyte."""
        if job.id in self._progress_at:  # the last tile may be reported after the release
            self._progress_at[job.id] = self._clock()

    def release(self, job: Job) -> None:
        """End the hold on a job."""
        with self._lock:
            self._held.pop(job.id, None)
            self._progress_at.pop(job.id, None)

    def ids(self) -> list[int]:
        """Return the ids of the jobs that workers hold."""
        with self._lock:
            return list(self._held)

    def orphaned_jobs(self, jobs: JobQueue) -> list[Job]:
        """Return the running jobs that no worker holds, because their worker ended or failed."""
        with self._claiming:
            running = jobs.in_state(JobState.RUNNING)
            with self._lock:
                return [job for job in running if job.id not in self._held]

    def longest_stalled(self) -> StalledJob | None:
        """Return the held job without progress for the longest time, or None if none is held."""
        with self._lock:
            if not self._held:
                return None
            job_id = min(self._held, key=lambda id_: self._progress_at[id_])
            return StalledJob(self._held[job_id], self._clock() - self._progress_at[job_id])
