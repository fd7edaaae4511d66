"""Which jobs are in a worker's hands, and when it last got on with them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue


@dataclass(frozen=True, slots=True)
class StalledJob:
    """A job that has not got on for `seconds`."""

    job: Job
    seconds: float


class ClaimRegistry:
    """Shared by the workers and whoever looks after them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[int, Job] = {}
        self._got_on: dict[int, float] = {}

    def claim(self, jobs: JobQueue) -> Job | None:
        """Claim the next job and hold it, in one step as seen by `orphaned_jobs`."""
        with self._lock:
            job = jobs.claim()
            if job is not None:
                self._held[job.id] = job
                self._got_on[job.id] = self._clock()
        return job

    def heartbeat(self, job: Job) -> None:
        """Something was achieved for a job: a tile, a megabyte."""
        if job.id in self._got_on:  # the last tile's news may come after the job was let go
            self._got_on[job.id] = self._clock()

    def release(self, job: Job) -> None:
        with self._lock:
            self._held.pop(job.id, None)
            self._got_on.pop(job.id, None)

    def ids(self) -> list[int]:
        """The jobs that somebody holds."""
        with self._lock:
            return list(self._held)

    def orphaned_jobs(self, jobs: JobQueue) -> list[Job]:
        """Running jobs that nobody holds: their worker died or failed."""
        with self._lock:
            return [job for job in jobs.in_state(JobState.RUNNING) if job.id not in self._held]

    def longest_stalled(self) -> StalledJob | None:
        """The job that has not got on for the longest; None where nobody holds any."""
        with self._lock:
            if not self._held:
                return None
            job_id = min(self._held, key=lambda id_: self._got_on[id_])
            return StalledJob(self._held[job_id], self._clock() - self._got_on[job_id])
