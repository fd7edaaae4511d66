"""A folder -> the queue: find scans, wait until they are finished, queue them.

A file is taken when its size and mtime have not changed for a while and it is structurally
complete. One that is still incomplete is waited for; one that can never be a slide is quarantined.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from her2d.intake.identity import FileState
from her2d.intake.jobs import Job, JobQueue, JobState
from her2d.settings import IntakeSettings

log = structlog.get_logger(__name__)


class Completeness(StrEnum):
    """What the structural check says of a file."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A structural check's finding, with its reason unless complete."""

    completeness: Completeness
    reason: str | None = None


Check = Callable[[Path], Verdict]


@dataclass(slots=True)
class _Watch:
    """When a settling file last changed, on a clock that never jumps."""

    state: FileState
    unchanged_since: float
    first_seen: float
    checked_at: float = float("-inf")


class Inbox:
    """Moves files of the inboxes into the queue; driven by `look` and `settle`."""

    def __init__(
        self,
        jobs: JobQueue,
        settings: IntakeSettings,
        check: Check,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._settings = settings
        self._check = check
        self._clock = clock
        self._watched: dict[int, _Watch] = {}

    def sweep(self) -> int:
        """Look at every file of every inbox. Returns how many inboxes could be read."""
        readable = 0
        for inbox in self._settings.inboxes:
            try:
                for path in _files(inbox):
                    self.look(path)
                readable += 1
            except OSError as error:
                log.warning("inbox_unreadable", inbox=str(inbox), reason=error.strerror)
        return readable

    def look(self, path: Path) -> None:
        """Begin a job for `path` if it is a scan that is not known yet."""
        inbox = self._inbox_of(path)
        if inbox is None or path.suffix.lower() not in self._settings.extensions:
            return
        if path.name.startswith("."):
            return
        try:
            found = path.lstat()
        except OSError:
            return  # It is gone, or not ours to see: the sweep will find it if it returns.
        if not stat.S_ISREG(found.st_mode):
            return
        state = FileState(found.st_ino, found.st_size, found.st_mtime_ns)
        if job := self._jobs.discover(path, inbox, state):
            log.info("file_discovered", job_id=job.id, file=path.name)

    def settle(self) -> list[Job]:
        """Look again at every settling file. Returns the jobs that were queued now."""
        queued = []
        settling = self._jobs.in_state(JobState.SETTLING)
        self._watched = {
            job.id: self._watched[job.id] for job in settling if job.id in self._watched
        }
        for job in settling:
            if self._settled(job):
                self._jobs.queue(job.id)
                log.info("file_queued", job_id=job.id, file=job.path.name)
                queued.append(job)
        return queued

    def _settled(self, job: Job) -> bool:
        now = self._clock()
        try:
            state = FileState.of(job.path)
        except FileNotFoundError:
            self._jobs.vanished(job.id)
            log.info("file_vanished", job_id=job.id, file=job.path.name)
            return False
        except OSError as error:
            log.warning("file_unreachable", job_id=job.id, reason=error.strerror)
            return False
        watch = self._watched.setdefault(job.id, _Watch(state, now, now))
        if watch.state != state:
            watch.state, watch.unchanged_since = state, now
            watch.checked_at = float("-inf")
            self._jobs.still_settling(job.id, state)
            return False
        if now - max(watch.unchanged_since, watch.checked_at) < self._settings.settle_s:
            return False
        watch.checked_at = now
        verdict = self._check(job.path)
        if verdict.completeness is Completeness.COMPLETE:
            return True
        if verdict.completeness is Completeness.BROKEN:
            self._quarantine(job, verdict.reason or "The file is no slide.")
        elif now - watch.first_seen > self._settings.incomplete_after_s:
            self._quarantine(job, f"The file stayed incomplete: {verdict.reason}")
        return False

    def _quarantine(self, job: Job, reason: str) -> None:
        self._jobs.quarantine(job.id, reason)
        log.warning("file_quarantined", job_id=job.id, file=job.path.name, reason=reason)

    def _inbox_of(self, path: Path) -> Path | None:
        return next((inbox for inbox in self._settings.inboxes if path.is_relative_to(inbox)), None)


def _files(folder: Path) -> Iterator[Path]:
    """Every file under `folder`, one directory's entries in memory at a time. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield Path(entry.path)
