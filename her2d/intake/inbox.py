"""Find scans in the inboxes, wait until they are finished, and queue them.

A file is queued when its size and modification time have not changed for a while, it is
structurally complete, and its sidecar, if the settings require one, is there. An incomplete file is
waited for. If it does not change for too long it is queued as it is, where what is there can be
read, else quarantined. A file that can never become a slide is quarantined at once. The work is
done in short passes, so that ten thousand files at once do not delay the caller.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from her2d.intake.check_times import CheckTimes
from her2d.intake.destination import destination
from her2d.intake.discovery import Found, find_scan, is_folder, sidecars
from her2d.intake.settling import Completeness, Patience, Settledness, Watch, WhenOverdue
from her2d.intake.sweeps import Sweeps
from her2d.intake.unread import Explain, UnreadFiles
from her2d.queue.changes import StateChanges
from her2d.queue.job import (
    BACKFILL,
    NEW_SCAN,
    Job,
    JobState,
    NewestJob,
    missing_from_archive,
)
from her2d.queue.store import JobQueue, problem_of_name, text_of
from her2d.settings import IntakeSettings
from her2d.slides.barcode_of_file import barcode_of_file
from her2d.system.file_identity import FileState
from her2d.system.loggers import get_logger
from her2d.system.ownership import read_hint

log = get_logger(__name__)

_PASS_S = 0.25
_BATCH = 200

Check = Callable[[Path], Settledness]
"""Checks the structure of a file."""


class Inbox:
    """Queues the files of all inboxes; the caller drives it with `sweep`, `look_at` and `settle`.

    Args:
        jobs: the queue.
        settings: the inboxes, what counts as a scan, and how long to wait.
        check: called with a file that has been unchanged for long enough.
        clock: monotonic seconds.
        explain: says why a file that is not a scan is not read.

    Attributes:
        sweeps: which folders are searched when.
        forbidden: ids of the settling jobs whose files this user may not read.
    """

    def __init__(
        self,
        jobs: JobQueue,
        settings: IntakeSettings,
        check: Check,
        clock: Callable[[], float] = time.monotonic,
        explain: Explain = lambda _path: None,
    ) -> None:
        self._jobs = jobs
        self._check = check
        self._clock = clock
        self._times = CheckTimes()
        self._changes = StateChanges(jobs.database, JobState.SETTLING)
        self.sweeps = Sweeps(settings, clock)
        self._unread = UnreadFiles(jobs, settings, explain, clock)
        self._settings = settings
        self._unwatched: set[int] = set()
        self.forbidden: set[int] = set()
        self._patience = Patience(settings.settle_s, settings.incomplete_after_s)

    def apply(self, settings: IntakeSettings) -> None:
        """Continue with other settings."""
        self._settings = settings
        self._patience = Patience(settings.settle_s, settings.incomplete_after_s)
        self.sweeps.apply(settings)
        self._unread.apply(settings)

    def leave_out(self, hanging: frozenset[Path], slow: frozenset[Path] = frozenset()) -> None:
        """Access no file in these inboxes until the next call.

        Args:
            hanging: inboxes that do not answer. Whether their files change cannot be observed, so
                that those must be unchanged for `settle_s` again once the inbox answers.
            slow: inboxes that have not answered yet; their folders are searched later.
        """
        if self.sweeps.left_out - hanging:
            for job_id in self._unwatched:
                self._times.start_again(job_id)
            self._unwatched.clear()
        self.sweeps.leave_out(hanging)
        self.sweeps.paused = slow

    def sweep(self) -> bool:
        """Search the folders that are due for at most a quarter of a second.

        Returns:
            True if no folder that is due is left.
        """
        end = time.monotonic() + _PASS_S
        while (batch := self.sweeps.take(_BATCH)) is not None:
            with self.sweeps.working():
                new = self._unknown(batch)
            self._create_jobs(new)
            if time.monotonic() > end:
                return False
        self._unread.look_at(self.sweeps.take_others())
        self._unread.check(self.sweeps.left_out | self.sweeps.paused)
        return True

    def look_at(self, paths: Iterable[Path]) -> None:
        """Create a job for each path that is a new scan, and search each path that is a folder."""
        found = []
        rules = self.sweeps.rules
        for path in paths:
            inbox = self._inbox_of(path)
            if inbox is None or inbox in self.sweeps.left_out:
                continue
            if inbox in self.sweeps.paused:
                self.sweeps.request(inbox, inbox)
                continue
            if is_folder(path):
                if path == inbox or (rules.reaches(path, inbox) and rules.enters(path)):
                    self.sweeps.request(path, inbox)
            elif scan := find_scan(path, inbox, rules):
                found.append(scan)
        files = iter(found)
        while batch := list(islice(files, _BATCH)):
            self._create_jobs(self._unknown(batch))

    def settle(self) -> list[Job]:
        """Check the settling files that are due for at most a quarter of a second.

        Returns:
            The jobs that this call queued.
        """
        self._take_changes()
        with closing(self._times.due(self._clock())) as due:
            settled = [
                job
                for job in self._within_one_pass(due)
                if not self._is_left_out(job) and self._settled(job)
            ]
        if settled:
            with self._jobs.transaction():
                settled = [job for job in settled if self._jobs.queue(job)]
        for job in settled:
            log.info("slide_queued", job_id=job.id, file=job.path.name)
        return settled

    def _take_changes(self) -> None:
        settling, others = self._changes.take()
        for job_id in settling:
            self._times.add(job_id)
        for job_id in others:
            self._times.discard(job_id)
            self.forbidden.discard(job_id)

    def _within_one_pass(self, job_ids: Iterable[int]) -> Iterator[Job]:
        end = time.monotonic() + _PASS_S
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job.state is JobState.SETTLING:
                yield job
            if time.monotonic() > end:
                return

    def _unknown(self, files: list[Found]) -> list[Found]:
        """Return those of the files that have no job as they are."""
        names = [text_of(file.path_text) for file in files]
        newest = self._jobs.newest_of_each(names)
        return [
            file
            for file, name in zip(files, names, strict=True)
            if not self._is_known(file, newest.get(name))
        ]

    def _create_jobs(self, files: list[Found]) -> None:
        if not files:
            return
        with self._jobs.transaction():
            jobs = [self._create_job(file) for file in files]
        for job in jobs:
            if job is not None:
                log.info("slide_discovered", job_id=job.id, file=job.path.name)

    def _is_known(self, file: Found, newest: NewestJob | None) -> bool:
        if newest is None or not self._jobs.is_known(newest, FileState.from_stat(file.stat)):
            return False
        if newest.is_unmoved:
            self._archive_again(self._jobs.get(newest.id), file)
        return True

    def _archive_again(self, job: Job, file: Found) -> None:
        """Archive a file that did not exist when it was to be archived."""
        # The paths differ if the name is not valid UTF-8: the job has it as escaped text.
        if job.path == file.path and destination(job, self._settings) is not None:
            self._jobs.archive_again(job)
            log.info("slide_returned", job_id=job.id, file=job.path.name)

    def _create_job(self, file: Found) -> Job | None:
        state = FileState.from_stat(file.stat)
        if (reason := problem_of_name(file.path)) is not None:
            barcode = barcode_of_file(file.path)
            job = self._jobs.refuse(file.path, state, reason, inbox=file.inbox, barcode=barcode)
            log.warning("slide_quarantined", job_id=job.id, file=text_of(file.path), reason=reason)
            return None
        age_s = time.time() - file.stat.st_mtime
        old = age_s > self._settings.backfill_after_s
        of_inbox = self._settings.priorities.get(file.inbox, 0)
        priority = (BACKFILL if old else NEW_SCAN) + of_inbox
        return self._jobs.discover(file.path, file.inbox, state, priority)

    def _is_left_out(self, job: Job) -> bool:
        if job.inbox not in self.sweeps.left_out | self.sweeps.paused:
            return False
        now, state = self._clock(), job.file_state
        watch = self._times.watch(job.id) or Watch.begin(state, now, self._patience)
        self._times.put(job.id, watch.postponed(now, self._patience))
        if job.inbox in self.sweeps.left_out:
            self._unwatched.add(job.id)
        return True

    def _state_of(self, job: Job, now: float) -> FileState | None:
        """Return the file's state, None if the file is missing or out of reach."""
        try:
            return FileState.of(job.path)
        except FileNotFoundError:
            is_swept = job.backfill_id is None and self.sweeps.rules.finds(job.path, job.inbox)
            if not is_swept:
                self._wait(job, missing_from_archive(job.path), now)
            elif self._jobs.mark_vanished(job):
                log.info("slide_vanished", job_id=job.id, file=job.path.name)
        except PermissionError:
            self._wait_for_permission(job, read_hint(), now)
        except OSError as error:
            self._wait(job, f"The file cannot be accessed: {error.strerror}.", now)
        return None

    def _settled(self, job: Job) -> bool:
        now = self._clock()
        if (state := self._state_of(job, now)) is None:
            return False
        watch = self._times.watch(job.id)
        if watch is None or watch.state != state:
            self._times.put(job.id, Watch.begin(state, now, self._patience))
            if state != job.file_state:
                self._jobs.update_settling(job, state)
            return False
        self._times.put(job.id, watch.checked(state, now, self._patience))
        if not watch.is_still(now, self._patience):
            return False
        return self._is_finished(job, now)

    def _is_finished(self, job: Job, now: float) -> bool:
        settledness = self._check(job.path)
        if settledness.completeness is Completeness.FORBIDDEN:
            self._wait_for_permission(job, settledness.reason or read_hint(), now)
            return False
        self.forbidden.discard(job.id)
        if settledness.completeness is Completeness.BROKEN:
            self._quarantine(job, settledness.reason or "The file is not a slide.")
            return False
        reason = f"The file stays incomplete: it {settledness.reason}."
        is_incomplete = settledness.completeness is Completeness.INCOMPLETE
        if is_incomplete:
            watch = self._times.watch(job.id)
            is_overdue = watch is not None and watch.is_overdue(now, self._patience)
            if settledness.when_overdue is WhenOverdue.WAIT or not is_overdue:
                self._wait(job, reason, now)
                return False
            if settledness.when_overdue is WhenOverdue.QUARANTINE:
                self._quarantine(job, reason)
                return False
        if (missing := self._missing_sidecar(job)) is not None:
            self._wait(job, missing, now)
            return False
        if is_incomplete:
            log.warning("slide_taken_incomplete", job_id=job.id, file=job.path.name, reason=reason)
        return True

    def _missing_sidecar(self, job: Job) -> str | None:
        """Return why the file's sidecar is still to come; None if it is there, or not required.

        One that an earlier scan of the same name was queued with says nothing about this scan.
        """
        names = sidecars(job.path, self._settings.sidecar)
        if not names:
            return None
        found = [state for state in map(_sidecar_state, names) if state is not None]
        if not found:
            return f"The file's sidecar {names[0].name} has not arrived."
        earlier = self._jobs.earlier_sidecar(job)
        new = [state for state in found if state != earlier]
        if not new:
            return (
                f"The file's sidecar {names[0].name} has not arrived: the one that is there is that"
                " of an earlier scan with this name."
            )
        self._jobs.store_sidecar(job, new[0])
        return None

    def _quarantine(self, job: Job, reason: str) -> None:
        if self._jobs.quarantine(job, reason, barcode=barcode_of_file(job.path)):
            log.warning("slide_quarantined", job_id=job.id, file=job.path.name, reason=reason)

    def _wait_for_permission(self, job: Job, hint: str, now: float) -> None:
        """Check the file again later, and log once that this user may not read it."""
        reason = f"{job.path.name} {hint}"
        if job.id not in self.forbidden:
            self.forbidden.add(job.id)
            log.warning("slide_forbidden", job_id=job.id, file=job.path.name, reason=reason)
        self._wait(job, reason, now)

    def _wait(self, job: Job, reason: str, now: float) -> None:
        """Check the file again later, and log the reason once if it is overdue."""
        watch = self._times.watch(job.id)
        if watch is None:
            watch = Watch.begin(job.file_state, now, self._patience)
        self._times.put(job.id, watch.postponed(now, self._patience))
        if not watch.is_overdue(now, self._patience):
            if job.reason != reason:
                self._jobs.record_incomplete(job, reason)
        elif job.overdue_at is None or job.reason != reason:
            self._jobs.report_overdue(job, reason)
            log.warning("slide_overdue", job_id=job.id, file=job.path.name, reason=reason)

    def _inbox_of(self, path: Path) -> Path | None:
        return next((inbox for inbox in self._settings.inboxes if path.is_relative_to(inbox)), None)


def _sidecar_state(path: Path) -> str | None:
    """Return what identifies a sidecar as it is now; None if it is missing or empty."""
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{path.name} {found.st_size} {found.st_mtime_ns}" if found.st_size else None
