"""Move originals out of the inbox after their result, as `on_success` and `on_failure` ask.

The target is recorded before a file moves, and its arrival afterwards, so that a move interrupted
by a crash is completed and never done twice. Results do not wait for it.
"""

import errno
import time
from collections.abc import Callable, Set
from contextlib import closing
from itertools import islice
from pathlib import Path

import structlog

from her2d.archive.safe_move import (
    ContentChangedError,
    Original,
    QueuedAgainError,
    SourceChangedError,
    free_name,
    move,
    remove,
    remove_leftovers,
)
from her2d.db.write_ahead_log import write_back
from her2d.intake.destination import destination, states_to_archive
from her2d.intake.discovery import ScanRules, sidecars
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings
from her2d.system.backoff import Backoff
from her2d.system.clock import now
from her2d.system.file_identity import FileState, content_hash
from her2d.system.io_errors import is_gone
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_BACKOFF = Backoff(first_s=60.0, longest_s=3600.0)
_ROUND_FILES = 100


class Archiver:
    """Moves the files of finished jobs, one at a time; for one thread only.

    Args:
        on_progress: called at every file and every MiB that is copied. An exception that it raises
            ends the round, and the next round continues from there.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        on_progress: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_progress = on_progress
        self._clock = clock
        self._settings: IntakeSettings | None = None
        self._failed_moves = _FailedMoves(clock)
        self._unmoved: set[int] = set()

    @property
    def unmoved(self) -> int:
        """How many files could not be moved at the last attempt. Any thread may call this."""
        return len(self._unmoved)

    def round(self, jobs: JobQueue, settings: IntakeSettings) -> None:
        """Move the files of at most a hundred finished jobs.

        A file that cannot be moved stays in place, does not delay the others, and is tried again
        later.

        Args:
            jobs: the queue.
            settings: which files are moved, and to where.

        Raises:
            sqlite3.Error: the database cannot be read or written.
        """
        states = states_to_archive(settings)
        if not states:
            self._unmoved.clear()
            return
        if settings != self._settings:
            self._failed_moves = _FailedMoves(self._clock)  # the new settings may work
            self._unmoved.clear()
            self._settings = settings
        waiting = _not_archived(jobs, states, self._failed_moves.deferred())
        if waiting:
            # An original must not be moved while its result could be lost with the log.
            write_back(jobs.database)
        for job_id in waiting:
            self._on_progress()
            job = jobs.get(job_id)
            if job.state in states and not _archive(jobs, job, settings, self._on_progress):
                self._failed_moves.add(job_id)
                self._unmoved.add(job_id)
            else:
                self._unmoved.discard(job_id)
        if len(waiting) < _ROUND_FILES:
            self._failed_moves.all_tried()


class _FailedMoves:
    """Jobs whose files could not be moved.

    They are tried again together, after a minute and then after twice as long each time, because a
    copy whose original cannot be deleted is read again at each attempt.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._job_ids: set[int] = set()
        self._rounds_failed = 0
        self._again_at: float | None = None

    def add(self, job_id: int) -> None:
        self._job_ids.add(job_id)

    def deferred(self) -> Set[int]:
        """Return the jobs whose files must not be tried now."""
        if self._again_at is not None and self._clock() >= self._again_at:
            self._again_at = None
            self._job_ids.clear()
        return self._job_ids

    def all_tried(self) -> None:
        """Note that no other file is waiting, and set the time of the next attempt."""
        if not self._job_ids:
            self._rounds_failed = 0
        elif self._again_at is None:
            self._rounds_failed += 1
            self._again_at = self._clock() + _BACKOFF.wait_s(self._rounds_failed)


def inbox_that_finds(path: Path, settings: IntakeSettings) -> Path | None:
    """Return the inbox whose sweep would find a file at `path`, or None.

    Symbolic links are resolved, so that a folder with several paths is recognised.

    Raises:
        OSError: a folder cannot be accessed.
    """
    rules = ScanRules.of(settings)
    folder = path.parent.resolve()
    for inbox in settings.inboxes:
        inside = inbox.resolve()
        if folder.is_relative_to(inside) and rules.finds(
            inbox / folder.relative_to(inside) / path.name, inbox
        ):
            return inbox
    return None


def _not_archived(jobs: JobQueue, states: tuple[JobState, ...], without: Set[int]) -> list[int]:
    """Return the first finished jobs whose files have not been archived."""
    marks = ", ".join("?" for _ in states)
    rows = jobs.database.execute(
        f"select id from jobs where archived_at is null and state in ({marks}) and inbox <> ''"
        " order by state, id",  # the index's order, so that no more rows are read than returned
        states,
    )
    with closing(rows):
        return list(islice((job_id for (job_id,) in rows if job_id not in without), _ROUND_FILES))


def _archive(
    jobs: JobQueue, job: Job, settings: IntakeSettings, on_progress: Callable[[], None]
) -> bool:
    """Archive one job's file; return False if that must be tried again."""
    try:
        target = _move_to_destination(jobs, job, settings, on_progress)
    except OSError as error:
        log.warning("slide_not_archived", job_id=job.id, file=job.path.name, reason=str(error))
        return False
    _record(jobs, job, target)
    if target is not None:
        if is_gone(job.path):  # otherwise the sidecars belong to a new scan with the same name
            with structlog.contextvars.bound_contextvars(job_id=job.id):
                _move_sidecars(job, target, settings.sidecar)
        log.info("slide_archived", job_id=job.id, file=job.path.name, folder=str(target.parent))
    return True


def _move_to_destination(
    jobs: JobQueue, job: Job, settings: IntakeSettings, on_progress: Callable[[], None]
) -> Path | None:
    """Move the job's file to its destination, or complete an interrupted move.

    Returns:
        The file's new path, or None if it stays in place or no longer exists.

    Raises:
        OSError: the file cannot be moved.
    """
    if job.archived_path is not None and _has_arrived(job, job.archived_path, on_progress):
        _remove_original(jobs, job, on_progress)
        return job.archived_path
    wanted = destination(job, settings)
    if wanted is not None and _owns_its_file(jobs, job) and not is_gone(job.path):
        try:
            return _move(jobs, job, wanted, settings, on_progress)
        except SourceChangedError as reason:
            log.info("slide_not_archived", job_id=job.id, file=job.path.name, reason=str(reason))
            if isinstance(reason, ContentChangedError):
                _take_as_new_scan(jobs, job)
    if job.archived_path is not None:
        _remove_leftovers(job.archived_path)
    return None


def _has_arrived(job: Job, target: Path, on_progress: Callable[[], None]) -> bool:
    """Return whether the file reached `target` before a crash that kept it from being recorded."""
    if not _has_content(target):
        return False
    if is_gone(job.path):
        return True
    found = content_hash(target, on_progress=on_progress)
    return found == job.content_hash or found == content_hash(job.path, on_progress=on_progress)


def _owns_its_file(jobs: JobQueue, job: Job) -> bool:
    """Return whether the job is still the newest of its path and has not been queued again."""
    newest = jobs.newest_of(job.path)
    known = (job.id, job.state, job.claim)
    return newest is not None and (newest.id, newest.state, newest.claim) == known


def _remove_original(jobs: JobQueue, job: Job, on_progress: Callable[[], None]) -> None:
    if is_gone(job.path):
        return
    try:
        if not _owns_its_file(jobs, job):
            raise QueuedAgainError(f"{job.path.name} was queued again.")
        remove(_original(job), on_progress=on_progress)
    except SourceChangedError as reason:
        # A new scan has the same name, or the file was queued again.
        log.info("slide_left_in_inbox", job_id=job.id, file=job.path.name)
        if isinstance(reason, ContentChangedError):
            _take_as_new_scan(jobs, job)


def _take_as_new_scan(jobs: JobQueue, job: Job) -> None:
    """Let a file settle again whose time was put back after a change, which no sweep notices."""
    again = jobs.discover_changed(job)
    log.warning("slide_changed_after_result", job_id=again.id, file=job.path.name)


def _move(
    jobs: JobQueue,
    job: Job,
    wanted: Path,
    settings: IntakeSettings,
    on_progress: Callable[[], None],
) -> Path:
    """Move the job's file and return its new path.

    Raises:
        OSError: the file cannot be moved.
        SourceChangedError: the file was replaced, or was queued again.
    """
    target = job.archived_path
    if target is None or target.parent != wanted.parent or _has_content(target):
        if target is not None:
            _remove_leftovers(target)
        if (inbox := inbox_that_finds(wanted, settings)) is not None:
            reason = f"it is the same folder as one in the inbox {inbox}, where it would be found"
            raise OSError(errno.ELOOP, reason, str(wanted.parent))
        target = free_name(wanted)
        jobs.database.execute(
            "update jobs set archived_path = ? where id = ?", [str(target), job.id]
        )

    def unless_queued_again() -> None:
        on_progress()
        if not _owns_its_file(jobs, job):
            raise QueuedAgainError(f"{job.path.name} was queued again while it was moved.")

    try:
        move(_original(job), target, on_progress=unless_queued_again)
    except SourceChangedError:
        _remove_leftovers(target)
        raise
    return target


def _remove_leftovers(target: Path) -> None:
    try:
        remove_leftovers(target)
    except OSError as error:
        log.warning("archive_leftovers_kept", folder=str(target.parent), reason=str(error))


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _original(job: Job) -> Original:
    return Original(job.path, job.file_state, job.content_hash, job.inbox_around)


def _move_sidecars(job: Job, target: Path, suffix: str) -> None:
    """Move the slide's sidecars to where the slide was moved, and rename them as it was renamed.

    A crash before this leaves them in the inbox, where they do not count as scans. A stop waits for
    them because they are small.
    """
    for here, there in zip(sidecars(job.path, suffix), sidecars(target, suffix), strict=True):
        try:
            move(Original(here, FileState.of(here), inbox=job.inbox_around), free_name(there))
        except (OSError, SourceChangedError) as error:
            if not is_gone(here):
                log.warning("slide_sidecar_not_archived", file=here.name, reason=str(error))


def _record(jobs: JobQueue, job: Job, target: Path | None) -> None:
    """Record the file's path, unless the job was queued again and the file stayed in place."""
    text, was = str(target) if target is not None else None, str(job.path)
    has_moved = target is not None and is_gone(job.path)
    with jobs.transaction():
        jobs.database.execute(
            "update jobs set archived_path = ?, archived_at = ?"
            " where id = ? and state = ? and claim = ?",
            [text, now(), job.id, job.state, job.claim],
        )
        if has_moved:
            _redirect_newer_jobs(jobs, job, str(target))
        if text is not None and job.slide_id is not None:
            jobs.database.execute(
                "update slides set path = ? where id = ? and path = ?", [text, job.slide_id, was]
            )


def _redirect_newer_jobs(jobs: JobQueue, job: Job, path: str) -> None:
    """Give the new path to jobs that were queued for the same file while it was moved.

    A worker may already have looked for the file at its old path; such a job is queued again.
    """
    rows = jobs.database.query(
        "update jobs set path = ?, archived_path = null, ctime_ns = 0 where path = ? and id >= ?"
        " and archived_at is null and size = ? and mtime_ns = ? and inode = ? returning *",
        [path, str(job.path), job.id, job.size, job.mtime_ns, job.inode],
    )
    for again in map(Job.of, list(rows)):
        if again.state is JobState.VANISHED:
            jobs.move(again, JobState.QUEUED, {"reason": None, "finished_at": None})
