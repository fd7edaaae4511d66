"""After the result: `on_success` and `on_failure` may move the original out of the inbox.

Where a file goes is recorded before it moves, and that it is there afterwards, so that a move
which a crash interrupted is finished, and never done twice. The result does not wait for it.
"""

import errno
import time
from collections.abc import Callable, Set
from contextlib import closing
from itertools import islice
from pathlib import Path

import structlog

from her2d.archive.safe_move import (
    QueuedAgainError,
    SourceChangedError,
    abandon,
    free_name,
    move,
    remove,
)
from her2d.intake.discovery import ScanRules, sidecars
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings
from her2d.system.backoff import Backoff
from her2d.system.clock import now
from her2d.system.file_identity import FileState, content_hash
from her2d.system.io_errors import is_gone

log = structlog.get_logger(__name__)

_SUCCESSES = (JobState.DONE, JobState.DUPLICATE)
_FAILURES = (JobState.QUARANTINED,)
_BACKOFF = Backoff(first_s=60.0, longest_s=3600.0)
_ROUND_FILES = 100


class Archiver:
    """Files what is finished, one file at a time. Used by one thread.

    `beat` is called at every file and at every MiB that is copied; what it raises ends the round,
    and the next one goes on where that left off.
    """

    def __init__(
        self,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._beat = beat
        self._clock = clock
        self._settings: IntakeSettings | None = None
        self._failed_moves = _FailedMoves(clock)

    def round(self, jobs: JobQueue, settings: IntakeSettings) -> None:
        """File what has ended, up to a hundred files. Raises sqlite3.Error, and what `beat` raises.

        What cannot be moved stays where it is, keeps no other waiting, and is tried again later.
        """
        states = _states_to_file(settings)
        if not states:
            return
        if settings != self._settings:
            self._failed_moves = _FailedMoves(self._clock)  # it may all be different now
            self._settings = settings
        waiting = _unfiled(jobs, states, self._failed_moves.waited_for())
        for job_id in waiting:
            self._beat()
            job = jobs.get(job_id)
            if job.state in states and not _file(jobs, job, settings, self._beat):
                self._failed_moves.add(job_id)
        if len(waiting) < _ROUND_FILES:
            self._failed_moves.all_tried()


class _FailedMoves:
    """Files that could not be moved. They are tried again together, after a minute and then after
    twice as long each time: a copy whose original cannot be deleted is read again at each try."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._job_ids: set[int] = set()
        self._rounds_failed = 0
        self._again_at: float | None = None

    def add(self, job_id: int) -> None:
        self._job_ids.add(job_id)

    def waited_for(self) -> Set[int]:
        """The jobs whose files are not to be tried now."""
        if self._again_at is not None and self._clock() >= self._again_at:
            self._again_at = None
            self._job_ids.clear()
        return self._job_ids

    def all_tried(self) -> None:
        """Every file was tried since those in problem were."""
        if not self._job_ids:
            self._rounds_failed = 0
        elif self._again_at is None:
            self._rounds_failed += 1
            self._again_at = self._clock() + _BACKOFF.wait_s(self._rounds_failed)


def destination(job: Job, settings: IntakeSettings) -> Path | None:
    """Where the settings want the job's file; None for where it is.

    A failure is moved out of its inbox and from nowhere else: the original of a slide that has a
    result is not to leave the archive because processing it once more failed.
    """
    in_inbox = job.inbox is not None and job.path.is_relative_to(job.inbox)
    if job.state in _SUCCESSES and settings.on_success == "move":
        folder = settings.archive
    elif job.state in _FAILURES and settings.on_failure == "move" and in_inbox:
        folder = settings.quarantine
    else:
        return None
    if job.path.is_relative_to(folder):
        return None
    if job.inbox is not None and in_inbox:
        return folder / job.path.relative_to(job.inbox)
    return folder / job.path.name


def inbox_that_finds(path: Path, settings: IntakeSettings) -> Path | None:
    """The inbox whose sweep would come upon a file there, by whatever name the settings call that
    folder; None where there is none. Raises OSError."""
    rules = ScanRules.of(settings)
    folder = path.parent.resolve()
    for inbox in settings.inboxes:
        inside = inbox.resolve()
        if folder.is_relative_to(inside) and rules.finds(
            inbox / folder.relative_to(inside) / path.name, inbox
        ):
            return inbox
    return None


def follow(
    jobs: JobQueue,
    slide_id: int,
    path: Path,
    *,
    is_within_reach: Callable[[Path], bool],
) -> None:
    """A slide whose file is not where it was is now known by `path`, which holds the same bytes.

    Where the old one's storage does not answer (`is_within_reach`), it may well be there.
    """
    rows = jobs.database.query("select path from slides where id = ?", [slide_id])
    known = [Path(row["path"]) for row in rows]
    if any(is_within_reach(old) and is_gone(old) for old in known):
        jobs.database.execute(
            "update slides set path = ?, file_name = ? where id = ?",
            [str(path), path.name, slide_id],
        )


def _states_to_file(settings: IntakeSettings) -> tuple[JobState, ...]:
    return (_SUCCESSES if settings.on_success == "move" else ()) + (
        _FAILURES if settings.on_failure == "move" else ()
    )


def _unfiled(jobs: JobQueue, states: tuple[JobState, ...], without: Set[int]) -> list[int]:
    """The first jobs that have ended and whose files are not filed."""
    marks = ", ".join("?" for _ in states)
    rows = jobs.database.execute(
        f"select id from jobs where archived_at is null and state in ({marks}) and inbox <> ''"
        " order by state, id",  # as the index has them: no more are read than are taken
        states,
    )
    with closing(rows):
        return list(islice((job_id for (job_id,) in rows if job_id not in without), _ROUND_FILES))


def _file(jobs: JobQueue, job: Job, settings: IntakeSettings, beat: Callable[[], None]) -> bool:
    """Bring one file to its place; False where that has to be tried again."""
    try:
        target = _placed(jobs, job, settings, beat)
    except OSError as error:
        log.warning("file_not_archived", job_id=job.id, file=job.path.name, reason=str(error))
        return False
    _record(jobs, job, target)
    if target is not None:
        if is_gone(job.path):  # or they are those of the scan that took its name
            with structlog.contextvars.bound_contextvars(job_id=job.id):
                _move_sidecars(job.path, target, settings.sidecar)
        log.info("file_filed", job_id=job.id, file=job.path.name, folder=str(target.parent))
    return True


def _placed(
    jobs: JobQueue, job: Job, settings: IntakeSettings, beat: Callable[[], None]
) -> Path | None:
    """Bring the job's file where the settings want it; returns where it is now, None where it
    stays or is gone. Raises OSError."""
    if job.archived_path is not None and _arrived(job, job.archived_path, beat):
        _remove_original(jobs, job)
        return job.archived_path
    wanted = destination(job, settings)
    if wanted is not None and _has_its_file(jobs, job) and not is_gone(job.path):
        try:
            return _moved(jobs, job, wanted, settings, beat)
        except SourceChangedError as reason:
            log.info("file_not_archived", job_id=job.id, file=job.path.name, reason=str(reason))
    if job.archived_path is not None:
        _abandon(job.archived_path)
    return None


def _arrived(job: Job, target: Path, beat: Callable[[], None]) -> bool:
    """Whether a crash came after the job's file was at `target`, and before that was recorded."""
    if not _has_content(target):
        return False
    if is_gone(job.path):
        return True
    found = content_hash(target, beat=beat)
    return found == job.content_hash or found == content_hash(job.path, beat=beat)


def _has_its_file(jobs: JobQueue, job: Job) -> bool:
    """Whether the file is nobody else's by now, nor wanted where it is for another try."""
    newest = jobs.newest_of(job.path)
    known = (job.id, job.state, job.claim)
    return newest is not None and (newest.id, newest.state, newest.claim) == known


def _remove_original(jobs: JobQueue, job: Job) -> None:
    if is_gone(job.path):
        return
    try:
        if not _has_its_file(jobs, job):
            raise QueuedAgainError(f"{job.path.name} was queued again.")
        remove(job.path, _state_of(job))
    except SourceChangedError:
        # Another scan took its name, perhaps a moment ago, or somebody wants it processed again.
        log.info("file_left_in_inbox", job_id=job.id, file=job.path.name)


def _moved(
    jobs: JobQueue, job: Job, wanted: Path, settings: IntakeSettings, beat: Callable[[], None]
) -> Path:
    """Move the job's file; returns where it is now. Raises OSError and SourceChangedError."""
    target = job.archived_path
    if target is None or target.parent != wanted.parent or _has_content(target):
        if target is not None:
            _abandon(target)
        if (inbox := inbox_that_finds(wanted, settings)) is not None:
            reason = f"it lies in the inbox {inbox} by another name and would be found there again"
            raise OSError(errno.ELOOP, reason, str(wanted.parent))
        target = free_name(wanted)
        jobs.database.execute(
            "update jobs set archived_path = ? where id = ?", [str(target), job.id]
        )

    def unless_queued_again() -> None:
        beat()
        if not _has_its_file(jobs, job):
            raise QueuedAgainError(f"{job.path.name} was queued again while it was moved.")

    try:
        move(job.path, target, _state_of(job), beat=unless_queued_again)
    except SourceChangedError:
        _abandon(target)
        raise
    return target


def _abandon(target: Path) -> None:
    try:
        abandon(target)
    except OSError as error:
        log.warning("leftovers_kept", folder=str(target.parent), reason=str(error))


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _state_of(job: Job) -> FileState:
    return FileState(job.inode, job.size, job.mtime_ns)


def _move_sidecars(slide: Path, target: Path, suffix: str) -> None:
    """What came with the slide goes with it, and keeps its name's relation to the slide's.

    A crash before this leaves them in the inbox, where they are no scans. They are small: a stop
    waits for them.
    """
    for here, there in zip(sidecars(slide, suffix), sidecars(target, suffix), strict=True):
        try:
            move(here, free_name(there), FileState.of(here))
        except (OSError, SourceChangedError) as error:
            if not is_gone(here):
                log.warning("sidecar_not_archived", file=here.name, reason=str(error))


def _record(jobs: JobQueue, job: Job, target: Path | None) -> None:
    """Note where the file is, unless the job goes on and the file stayed."""
    text, was = str(target) if target is not None else None, str(job.path)
    it_went = target is not None and is_gone(job.path)
    with jobs.together():
        jobs.database.execute(
            "update jobs set archived_path = ?, archived_at = ?"
            " where id = ? and state = ? and claim = ?",
            [text, now(), job.id, job.state, job.claim],
        )
        if it_went:
            _have_followed(jobs, job, str(target))
        if text is not None and job.slide_id is not None:
            jobs.database.execute(
                "update slides set path = ? where id = ? and path = ?", [text, job.slide_id, was]
            )


def _have_followed(jobs: JobQueue, job: Job, path: str) -> None:
    """Whoever queued the file again in the very moment in which it went finds it where it is, also
    where a worker has looked for it by now."""
    rows = jobs.database.query(
        "update jobs set path = ?, archived_path = null where path = ? and id >= ?"
        " and archived_at is null and size = ? and mtime_ns = ? and inode = ? returning *",
        [path, str(job.path), job.id, job.size, job.mtime_ns, job.inode],
    )
    for again in map(Job.of, list(rows)):
        if again.state is JobState.VANISHED:
            jobs.move(again, JobState.QUEUED, {"reason": None, "finished_at": None})
