"""A folder -> the queue: find scans, wait until they are finished, queue them.

A file is taken when its size and mtime have not changed for a while, it is structurally complete
and, if set, its sidecar is there. One that is still incomplete is waited for, and reported when
that takes too long; one that can never be a slide is quarantined. Work is done in short passes, so
that ten thousand files at once delay nobody.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import structlog

from her2d.archive.archiver import destination
from her2d.intake.discovery import Found, is_folder, look_at, sidecars
from her2d.intake.settling import Completeness, Patience, Verdict, Watch
from her2d.intake.sweeps import Sweeps
from her2d.queue.job import BACKFILL, NEW_SCAN, Job, JobState, not_where_it_was_archived
from her2d.queue.store import JobQueue, text_of
from her2d.settings import IntakeSettings
from her2d.system.file_identity import FileState

log = structlog.get_logger(__name__)

_PASS_S = 0.25
_BATCH = 200

Check = Callable[[Path], Verdict]


class Inbox:
    """Moves files of the inboxes into the queue; driven by `sweep`, `look` and `settle`."""

    def __init__(
        self,
        jobs: JobQueue,
        settings: IntakeSettings,
        check: Check,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._check = check
        self._clock = clock
        self._watches: dict[int, Watch] = {}
        self.sweeps = Sweeps(settings, clock)
        self._settings = settings
        self._unseen: set[int] = set()
        self._patience = Patience(settings.settle_s, settings.incomplete_after_s)

    def apply(self, settings: IntakeSettings) -> None:
        """Go on with other settings."""
        self._settings = settings
        self._patience = Patience(settings.settle_s, settings.incomplete_after_s)
        self.sweeps.apply(settings)

    def leave_out(self, hanging: frozenset[Path], slow: frozenset[Path] = frozenset()) -> None:
        """Touch nothing in these inboxes: not while they hang, not for now where they are slow."""
        if self.sweeps.left_out - hanging:
            # Nobody saw whether their files changed meanwhile: they must be still from now on.
            for job_id in self._unseen:
                self._watches.pop(job_id, None)
            self._unseen.clear()
        self.sweeps.leave_out(hanging)
        self.sweeps.paused = slow

    def sweep(self) -> bool:
        """Find files for a moment, where and when it is time to; True when nothing is left to."""
        end = time.monotonic() + _PASS_S
        while batch := self.sweeps.take(_BATCH):
            self._discover(batch)
            if time.monotonic() > end:
                return False
        return True

    def look(self, paths: Iterable[Path]) -> None:
        """Begin a job for each of `paths` that is a scan not known yet; sweep the folders."""
        found = []
        rules = self.sweeps.rules
        for path in paths:
            inbox = self._inbox_of(path)
            if inbox is None or inbox in self.sweeps.left_out:
                continue
            if inbox in self.sweeps.paused:
                self.sweeps.soon(inbox, inbox)
                continue
            if is_folder(path):
                if path == inbox or (rules.reaches(path, inbox) and rules.enters(path)):
                    self.sweeps.soon(path, inbox)
            elif scan := look_at(path, inbox, rules):
                found.append(scan)
        files = iter(found)
        while batch := list(islice(files, _BATCH)):
            self._discover(batch)

    def settle(self) -> list[Job]:
        """Look again at settling files whose time it is. Returns the jobs that were queued now."""
        settling = set(self._jobs.ids_in(JobState.SETTLING))
        self._watches = {id_: self._watches[id_] for id_ in self._watches if id_ in settling}
        now = self._clock()
        due = [id_ for id_ in settling if id_ not in self._watches]
        due += [id_ for id_, watch in self._watches.items() if watch.look_at <= now]
        due.sort(key=lambda id_: (self._look_at(id_), id_))
        settled = [
            job
            for job in self._for_a_moment(due)
            if not self._is_left_out(job) and self._settled(job)
        ]
        if settled:
            with self._jobs.together():
                settled = [job for job in settled if self._jobs.queue(job)]
        for job in settled:
            log.info("file_queued", job_id=job.id, file=job.path.name)
        return settled

    def _look_at(self, job_id: int) -> float:
        watch = self._watches.get(job_id)
        return watch.look_at if watch else float("-inf")

    def _for_a_moment(self, job_ids: Iterable[int]) -> Iterator[Job]:
        end = time.monotonic() + _PASS_S
        for job_id in job_ids:
            yield self._jobs.get(job_id)
            if time.monotonic() > end:
                return

    def _discover(self, files: Iterable[Found]) -> None:
        new = [file for file in files if not self._is_known(file)]
        if not new:
            return
        with self._jobs.together():
            jobs = [self._begin(file) for file in new]
        for job in jobs:
            if job is not None:
                log.info("file_discovered", job_id=job.id, file=job.path.name)

    def _is_known(self, file: Found) -> bool:
        job = self._jobs.newest_of(file.path)
        if job is None or not self._jobs.knows(job, FileState.from_stat(file.stat)):
            return False
        if self._was_away(job) and job.path == file.path:  # which is text where it is no UTF-8
            self._jobs.archive_after_all(job)
            log.info("file_is_back", job_id=job.id, file=job.path.name)
        return True

    def _was_away(self, job: Job) -> bool:
        """Whether the job's file was not there when it was to be filed."""
        looked = job.archived_at is not None and job.archived_path is None
        return looked and destination(job, self._settings) is not None

    def _begin(self, file: Found) -> Job | None:
        state = FileState.from_stat(file.stat)
        if text_of(file.path) != str(file.path):
            reason = "The file's name is not valid UTF-8: rename it and it is processed."
            job = self._jobs.refuse(file.path, state, reason, inbox=file.inbox)
            log.warning("file_quarantined", job_id=job.id, file=text_of(file.path), reason=reason)
            return None
        age_s = time.time() - file.stat.st_mtime
        old = age_s > self._settings.backfill_after_s
        return self._jobs.discover(file.path, file.inbox, state, BACKFILL if old else NEW_SCAN)

    def _is_left_out(self, job: Job) -> bool:
        if job.inbox not in self.sweeps.left_out | self.sweeps.paused:
            return False
        now, state = self._clock(), FileState(job.inode, job.size, job.mtime_ns)
        watch = self._watches.get(job.id) or Watch.begun(state, now, self._patience)
        self._watches[job.id] = watch.put_off(now, self._patience)
        if job.inbox in self.sweeps.left_out:
            self._unseen.add(job.id)
        return True

    def _settled(self, job: Job) -> bool:
        now = self._clock()
        try:
            state = FileState.of(job.path)
        except FileNotFoundError:
            if not self.sweeps.rules.finds(job.path, job.inbox):
                self._wait(job, not_where_it_was_archived(job.path), now)
                return False
            if self._jobs.vanished(job):
                log.info("file_vanished", job_id=job.id, file=job.path.name)
            return False
        except OSError as error:
            self._wait(job, f"The file cannot be reached: {error.strerror}.", now)
            return False
        watch = self._watches.get(job.id)
        if watch is None or watch.state != state:
            self._watches[job.id] = Watch.begun(state, now, self._patience)
            if not state.same_file(FileState(job.inode, job.size, job.mtime_ns)):
                self._jobs.still_settling(job, state)
            return False
        self._watches[job.id] = watch.seen(state, now, self._patience)
        if not watch.is_still(now, self._patience):
            return False
        return self._finished(job, now)

    def _finished(self, job: Job, now: float) -> bool:
        verdict = self._check(job.path)
        if verdict.completeness is Completeness.BROKEN:
            reason = verdict.reason or "The file is no slide."
            if self._jobs.quarantine(job, reason):
                log.warning("file_quarantined", job_id=job.id, file=job.path.name, reason=reason)
            return False
        if verdict.completeness is Completeness.INCOMPLETE:
            self._wait(job, f"The file stays incomplete: it {verdict.reason}.", now)
            return False
        if missing := _missing_sidecar(job.path, self._settings.sidecar):
            self._wait(job, f"The file's sidecar {missing} has not arrived.", now)
            return False
        return True

    def _wait(self, job: Job, reason: str, now: float) -> None:
        """Not yet, for this reason. It is told once, where it takes longer than it should."""
        watch = self._watches.get(job.id)
        if watch is None:
            watch = Watch.begun(FileState(job.inode, job.size, job.mtime_ns), now, self._patience)
        self._watches[job.id] = watch.put_off(now, self._patience)
        if not watch.is_overdue(now, self._patience):
            if job.reason != reason:
                self._jobs.waits(job, reason)
        elif job.overdue_at is None or job.reason != reason:
            self._jobs.overdue(job, reason)
            log.warning("file_overdue", job_id=job.id, file=job.path.name, reason=reason)

    def _inbox_of(self, path: Path) -> Path | None:
        return next((inbox for inbox in self._settings.inboxes if path.is_relative_to(inbox)), None)


def _missing_sidecar(slide: Path, suffix: str) -> str | None:
    """The name of the sidecar that is not there yet; None where none is missing."""
    names = sidecars(slide, suffix)
    return None if not names or any(map(_has_content, names)) else names[0].name


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
