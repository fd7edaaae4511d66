"""The durable queue: one row of `jobs` for each file, finished or not, with its state.

    settling -> queued -> running -> done | failed (will retry) | quarantined (will not retry) |
    cancelled (a person's choice) | duplicate | vanished; `unread` for a file that nothing reads.

Every change of state is one transaction together with its event, so that a crash leaves a job in
the old or the new state. A change applies only if the job still has the state and the claim that
the caller knows; a job that was changed meanwhile stays as it is. The state `done` is written by
`her2d.results`, in the result's transaction.
"""

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from her2d.queue.job import (
    LIVE,
    MOST_INTERRUPTIONS,
    NEW_SCAN,
    RETRY,
    Job,
    JobState,
    NewestJob,
    interruption_wait_s,
)
from her2d.queue.turns import claim_next, number_due
from her2d.system.clock import in_seconds, now
from her2d.system.file_identity import FileState
from her2d.system.text import readable_text
from her2d.system.write_transaction import write_transaction

_INSERT = (
    "insert into jobs (path, file_name, inbox, state, priority, size, mtime_ns, inode, ctime_ns,"
    " discovered_at, settling_since, reason, attempts, barcode, finished_at, backfill_id) values"
    " (:path, :name, :inbox, :state, :priority, :size, :mtime, :inode, :ctime, :at, :settling,"
    " :reason, :attempts, :barcode, :finished, :backfill)"
)

_LIKE_ESCAPED = re.compile(rb"\\(?=x[0-9a-f]{2})")
_NO_SCAN = (JobState.VANISHED, JobState.UNREAD)


_NEWEST_OF_EACH = """
    select path, id, state, archived_at is not null and archived_path is null,
        inode, size, mtime_ns, ctime_ns
    from jobs where id in (
        select (select max(id) from jobs as newest where newest.path = wanted.value)
        from json_each(?) as wanted)
"""


class JobQueue:
    """The jobs of one database, through a connection that stays in one thread.

    Args:
        db: the connection.
        actor: the user and the command if a person changes the queue, for its events; None for the
            daemon.
    """

    def __init__(self, db: Database, actor: str | None = None) -> None:
        self._db = db
        self._actor = actor

    @property
    def database(self) -> Database:
        """The connection, for changes in the transaction that ends a job."""
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of the block in one transaction, with one fsync.

        The transaction holds the database's writing lock from its start, so that what the block
        reads does not change before its end.
        """
        with write_transaction(self._db):
            yield

    # Queries

    def get(self, job_id: int) -> Job:
        """Return a job by its id.

        Raises:
            KeyError: there is no such job.
        """
        rows = self._rows("id = ?", [job_id])
        if not rows:
            raise KeyError(job_id)
        return rows[0]

    def in_state(self, *states: JobState) -> list[Job]:
        """Return the jobs in any of `states`, oldest first; without `states`, all jobs."""
        if not states:
            return self._rows("1 order by id", [])
        marks = ", ".join("?" for _ in states)
        return self._rows(f"state in ({marks}) order by id", list(states))

    def ids_in(self, state: JobState) -> list[int]:
        """Return the ids of the jobs in `state`, oldest first, which take little memory."""
        rows = self._db.query("select id from jobs where state = ? order by id", [state])
        return [int(row["id"]) for row in rows]

    def inboxes(self) -> set[Path]:
        """Return the inboxes of unfinished jobs, also those that the settings no longer name."""
        marks = ", ".join("?" for _ in LIVE)
        rows = self._db.query(
            f"select distinct inbox from job_counts where state in ({marks})", list(LIVE)
        )
        return {Path(row["inbox"]) for row in rows if row["inbox"]}

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state."""
        rows = self._db.query("select state, sum(number) as n from job_counts group by state")
        found = {JobState(row["state"]): int(row["n"]) for row in rows}
        return {state: found.get(state, 0) for state in JobState}

    def unresolved(self) -> int:
        """Return the number of quarantined jobs whose file has no newer job."""
        (number,) = self._db.execute(
            "select total(number) from job_counts where state = 'quarantined' and is_newest = 1"
        ).fetchone()
        return int(number)

    def newest_of(self, path: Path) -> Job | None:
        """Return the newest job of a path, or None."""
        rows = self._rows("path = ? order by id desc limit 1", [text_of(path)])
        return rows[0] if rows else None

    def newest_of_each(self, paths: Sequence[str]) -> dict[str, NewestJob]:
        """Return the newest job of each path that has one; paths are as `text_of` writes them."""
        rows = self._db.execute(_NEWEST_OF_EACH, [json.dumps(paths)])
        return {
            path: NewestJob(job_id, JobState(state), FileState(*file), bool(is_unmoved))
            for path, job_id, state, is_unmoved, *file in rows
        }

    # Discovery and settling

    def discover(
        self,
        path: Path,
        inbox: Path,
        state: FileState,
        priority: int = NEW_SCAN,
        *,
        backfill_id: int | None = None,
    ) -> Job | None:
        """Create a settling job for a file, unless the file is known.

        A file is known if its path has a live job, or if the path's newest job was for the same,
        unchanged file. A file that had vanished and exists again continues its job, and so does
        one that nothing read before.

        Returns:
            The settling job, or None if the file is known.
        """
        known = self.newest_of(path)
        if known is not None:
            if self.is_known(known, state):
                return None
            if known.state in _NO_SCAN:
                again = {} if backfill_id is None else _of_backfill(inbox, priority, backfill_id)
                return self._found_again(known, state, again)
        try:
            return self._insert(
                path,
                str(inbox),
                state,
                JobState.SETTLING,
                priority=priority,
                backfill_id=backfill_id,
            )
        except sqlite3.IntegrityError:
            return None  # Another process created a job for this path since `newest_of`.

    @staticmethod
    def is_known(newest: Job | NewestJob, state: FileState) -> bool:
        """Return whether `newest`, the newest job of a path, is for the file in that state."""
        if newest.state in _NO_SCAN:
            return False
        return newest.state in LIVE or state.same_file(newest.file_state)

    def _found_again(self, job: Job, state: FileState, more: Mapping[str, Any]) -> Job | None:
        """Continue a job without its counts, because the file may be another scan."""
        fields = {
            "reason": None,
            "barcode": None,
            "size": state.size,
            "mtime_ns": state.mtime_ns,
            "inode": state.inode,
            "ctime_ns": state.ctime_ns,
            "attempts": 0,
            "interruptions": 0,
            "unforeseen": 0,
            "unreadable_on": "[]",
            "queued_at": None,
            "not_before": None,
            "finished_at": None,
            "archived_path": None,
            "archived_at": None,
            **more,
        }
        return self.get(job.id) if self.move(job, JobState.SETTLING, fields) else None

    def discover_changed(self, job: Job) -> Job:
        """Create a settling job for the file of a finished one, whose content has changed.

        It settles first, because it may still change.
        """
        return self._insert(
            job.path,
            str(job.inbox or ""),
            job.file_state,
            JobState.SETTLING,
            priority=job.priority,
            backfill_id=job.backfill_id,
        )

    def archive_again(self, job: Job) -> None:
        """Schedule the file of a finished job for archiving, because it exists again."""
        self._db.execute(
            "update jobs set archived_at = null where id = ? and archived_path is null", [job.id]
        )

    def refuse(
        self,
        path: Path,
        state: FileState,
        reason: str,
        *,
        inbox: Path | None = None,
        barcode: str | None = None,
        backfill_id: int | None = None,
    ) -> Job:
        """Record a file that was never queued as quarantined, with the reason."""
        return self._insert(
            path,
            str(inbox or ""),
            state,
            JobState.QUARANTINED,
            reason=reason,
            attempts=1,
            barcode=barcode,
            backfill_id=backfill_id,
        )

    def name_unread(self, path: Path, inbox: Path, state: FileState, reason: str) -> Job:
        """Record a file or folder in an inbox that nothing reads, with the reason."""
        known = self.newest_of(path)
        if known is not None and known.state is JobState.VANISHED:
            fields = {"reason": reason, "finished_at": now()}
            if self.move(known, JobState.UNREAD, fields):
                return self.get(known.id)
        return self._insert(path, str(inbox), state, JobState.UNREAD, reason=reason)

    def queue_again(self, job: Job, *, priority: int) -> Job:
        """Create a new, queued job for a finished file, which needs no settling."""
        again = self._insert(
            job.whereabouts,
            str(job.inbox or ""),
            replace(job.file_state, ctime_ns=0),  # it may have been moved since
            JobState.SETTLING,
            priority=priority,
            backfill_id=job.backfill_id,
        )
        self.queue(again)
        return self.get(again.id)

    def update_settling(self, job: Job, state: FileState) -> None:
        """Store a settling file's new state, and clear a reported delay."""
        self._db.execute(
            "update jobs set size = ?, mtime_ns = ?, inode = ?, ctime_ns = ?, overdue_at = null,"
            " unreadable_on = '[]', reason = null where id = ? and state = ?",
            [
                state.size,
                state.mtime_ns,
                state.inode,
                state.ctime_ns,
                job.id,
                JobState.SETTLING,
            ],
        )

    def store_sidecar(self, job: Job, sidecar: str) -> None:
        """Store what identifies the sidecar with which a settling file is queued."""
        self._db.execute(
            "update jobs set sidecar = ? where id = ? and state = ?",
            [sidecar, job.id, JobState.SETTLING],
        )

    def earlier_sidecar(self, job: Job) -> str | None:
        """Return the sidecar that the path's newest earlier job with one was queued with."""
        row = self._db.execute(
            "select sidecar from jobs where path = ? and id < ? and sidecar is not null"
            " order by id desc limit 1",
            [text_of(job.path), job.id],
        ).fetchone()
        return None if row is None else str(row[0])

    def record_incomplete(self, job: Job, reason: str) -> None:
        """Store why a settling file is incomplete as the job's reason, without an event."""
        self._db.execute(
            "update jobs set reason = ? where id = ? and state = ?",
            [reason, job.id, JobState.SETTLING],
        )

    def report_overdue(self, job: Job, reason: str) -> None:
        """Report a file that stays incomplete for too long; the job continues to settle."""
        with write_transaction(self._db):
            self._db.execute(
                "update jobs set overdue_at = ?, reason = ? where id = ? and state = ?",
                [now(), reason, job.id, JobState.SETTLING],
            )
            self._event(job.id, "overdue", reason)

    def queue(self, job: Job) -> bool:
        """Queue a job whose file has settled and is complete; return False if it changed."""
        fields = {"queued_at": now(), "reason": None, "not_before": None, "overdue_at": None}
        return self.move(job, JobState.QUEUED, fields)

    # Claims, and the ends of attempts and jobs

    def claim(self) -> Job | None:
        """Take the next job that is due, atomically, so that no two callers get the same one.

        `her2d.queue.turns` says which one is next.

        Returns:
            The job, now running, or None if no job is due.
        """
        with write_transaction(self._db):
            if (job := claim_next(self._db)) is not None:
                self._event(job.id, "running", None)
        return job

    def due(self, most: int) -> int:
        """Return how many jobs run or could run now, and `most` if there are more."""
        return number_due(self._db, most)

    def holds_claim(self, job: Job) -> bool:
        """Return whether the claim is still valid.

        In a transaction the claim stays valid until the end, because this method writes and SQLite
        allows one writer.
        """
        cursor = self._db.execute(
            "update jobs set heartbeat_at = ? where id = ? and claim = ? and state = 'running'",
            [now(), job.id, job.claim],
        )
        return cursor.rowcount == 1

    def store_content_hash(self, job: Job, content_hash: str, ctime_ns: int) -> None:
        """Store a claimed job's content hash, and its file's change time before it was hashed.

        From then on an interruption counts against the file and not against the storage.
        """
        self._db.execute(
            "update jobs set content_hash = ?, ctime_ns = ?"
            " where id = ? and claim = ? and state = 'running'",
            [content_hash, ctime_ns, job.id, job.claim],
        )

    def note_unreadable_on(self, job: Job, machine: str) -> None:
        """Remember a machine that could not read a claimed job's file, once however often it fails.

        Args:
            job: the claimed job.
            machine: a node's name, or `THIS_MACHINE`.
        """
        machines = dict.fromkeys((*job.unreadable_on, machine))
        self._db.execute(
            "update jobs set unreadable_on = ? where id = ? and claim = ? and state = 'running'",
            [json.dumps(list(machines)), job.id, job.claim],
        )

    def write_heartbeats(self, job_ids: Sequence[int]) -> None:
        """Store the present time as the heartbeat of these running jobs."""
        if job_ids:
            marks = ", ".join("?" for _ in job_ids)
            self._db.execute(
                f"update jobs set heartbeat_at = ? where state = 'running' and id in ({marks})",
                [now(), *job_ids],
            )

    def retry_later(
        self, job: Job, reason: str, *, max_attempts: int, barcode: str | None = None
    ) -> JobState:
        """End a failed attempt. Retry after a wait, or quarantine after the last attempt.

        Args:
            job: the claimed job.
            reason: for a technician.
            max_attempts: how often a file is tried.
            barcode: the slide's, as far as it can be read; likewise below.

        Returns:
            The job's new state.
        """
        if job.attempts >= max_attempts:
            given_up = f"{reason} Given up after {job.attempts} attempts."
            self.quarantine(job, given_up, barcode=barcode)
            return JobState.QUARANTINED
        due = in_seconds(RETRY.wait_s(job.attempts))
        fields = {"reason": reason, "not_before": due, **_known(barcode)}
        self.move(job, JobState.FAILED, fields)
        return JobState.FAILED

    def postpone(self, job: Job, reason: str, wait_s: float) -> bool:
        """Retry in `wait_s` seconds, because of a cause outside the file; no attempt counts."""
        return self._postpone(job, reason, wait_s, job.unforeseen)

    def postpone_unforeseen(self, job: Job, reason: str, wait_s: float) -> bool:
        """Retry as `postpone` does, and count the error as one that nobody foresaw."""
        return self._postpone(job, reason, wait_s, job.unforeseen + 1)

    def quarantine(self, job: Job, reason: str, *, barcode: str | None = None) -> bool:
        """End a job whose file will not be tried again; `reason` is for a technician."""
        fields = _ended(reason, barcode)
        return self.move(job, JobState.QUARANTINED, fields)

    def cancel(self, job: Job, reason: str, *, barcode: str | None = None) -> bool:
        """End a waiting job because a person asks for it; its file stays where it is."""
        fields = _ended(reason, barcode)
        return self.move(job, JobState.CANCELLED, fields)

    def mark_vanished(self, job: Job) -> bool:
        """End a job whose file was removed."""
        fields = {"reason": "The file was removed or renamed.", "finished_at": now()}
        return self.move(job, JobState.VANISHED, fields)

    def mark_duplicate(self, job: Job, slide_id: int, content_hash: str) -> bool:
        """End a job whose file has the same content as a slide with a result."""
        fields = {
            "reason": f"The same scan was already processed as slide {slide_id}.",
            "slide_id": slide_id,
            "content_hash": content_hash,
            "finished_at": now(),
        }
        return self.move(job, JobState.DUPLICATE, fields)

    def settle_again(self, job: Job, reason: str) -> bool:
        """Settle again, after the file changed or could not be reached; no attempt counts."""
        fields = {
            "reason": reason,
            "barcode": None,  # the file may be another slide's now
            "queued_at": None,
            "attempts": _one_less(job.attempts),
        }
        return self.move(job, JobState.SETTLING, fields)

    def give_back(self, job: Job) -> bool:
        """Queue a job again because the daemon stops; no attempt counts."""
        fields = {
            "started_at": None,
            "heartbeat_at": None,
            "attempts": _one_less(job.attempts),
        }
        return self.move(job, JobState.QUEUED, fields)

    def recover(self) -> list[Job]:
        """Queue the jobs again that the last daemon left running, and return them."""
        interrupted = self.in_state(JobState.RUNNING)
        for job in interrupted:
            self.requeue_interrupted(job)
        return interrupted

    def requeue_interrupted(self, job: Job, *, by_storage: bool = True) -> JobState:
        """Queue a running job again because its worker ended; no attempt counts.

        After several such interruptions the job is quarantined, because its file may be the cause.
        A daemon is also killed when its storage hangs, so that an interruption counts only after
        the whole file was read, and the next attempt reads it before anything else.

        Args:
            job: the claimed job.
            by_storage: whether its storage may be why the worker ended.

        Returns:
            The job's new state.
        """
        counts = not by_storage or self.get(job.id).content_hash is not None
        interruptions = job.interruptions + counts
        fields: dict[str, Any] = {
            "interruptions": interruptions,
            "hash_first": 1,
            "heartbeat_at": None,
        }
        if interruptions >= MOST_INTERRUPTIONS:
            fields |= {
                "reason": f"her2d ended unexpectedly {interruptions} times while it worked on this"
                " file; the file may be the cause.",
                "finished_at": now(),
            }
            self.move(job, JobState.QUARANTINED, fields)
            return JobState.QUARANTINED
        fields |= {
            "started_at": None,
            "attempts": _one_less(job.attempts),
            "not_before": in_seconds(interruption_wait_s(interruptions)),
        }
        self.move(job, JobState.QUEUED, fields)
        return JobState.QUEUED

    # Parts of the methods above

    def _postpone(self, job: Job, reason: str, wait_s: float, unforeseen: int) -> bool:
        fields = {
            "reason": reason,
            "not_before": in_seconds(wait_s),
            "attempts": _one_less(job.attempts),
            "unforeseen": unforeseen,
        }
        return self.move(job, JobState.FAILED, fields, event="postponed")

    def move(
        self,
        job: Job,
        state: JobState,
        fields: Mapping[str, Any],
        *,
        event: str | None = None,
        detail: str | None = None,
    ) -> bool:
        """Set the job's state and `fields`, if it still has the state and claim of `job`.

        A new state adds an event, which has the state's name unless `event` gives another, and the
        reason as its detail unless `detail` gives another. With `event` it is added in any case.

        Returns:
            Whether the job was changed.
        """
        if state is JobState.SETTLING:
            fields = {"settling_since": now(), **fields}
        columns = "".join(f", {name} = :{name}" for name in fields)
        with write_transaction(self._db):
            cursor = self._db.execute(
                f"update jobs set state = :state{columns}"
                " where id = :id and state = :was and claim = :claim",
                {
                    "state": state,
                    "id": job.id,
                    "was": job.state,
                    "claim": job.claim,
                    **fields,
                },
            )
            if cursor.rowcount == 0:
                return False
            if event is not None or state is not job.state:
                self._event(job.id, event or state, detail or fields.get("reason"))
        return True

    def _insert(
        self,
        path: Path,
        inbox: str,
        file: FileState,
        state: JobState,
        *,
        priority: int = NEW_SCAN,
        reason: str | None = None,
        attempts: int = 0,
        barcode: str | None = None,
        backfill_id: int | None = None,
    ) -> Job:
        at = now()
        with write_transaction(self._db):
            cursor = self._db.execute(
                _INSERT,
                {
                    "path": text_of(path),
                    "name": Path(text_of(path)).name,
                    "inbox": inbox,
                    "state": state,
                    "priority": priority,
                    "size": file.size,
                    "mtime": file.mtime_ns,
                    "inode": file.inode,
                    "ctime": file.ctime_ns,
                    "at": at,
                    "settling": at if state is JobState.SETTLING else None,
                    "reason": reason,
                    "attempts": attempts,
                    "barcode": barcode,
                    "finished": None if state in LIVE else at,
                    "backfill": backfill_id,
                },
            )
            job_id = int(cursor.lastrowid or 0)
            self._event(job_id, "discovered" if state in LIVE else state, reason)
        return self.get(job_id)

    def _event(self, job_id: int, name: str, detail: str | None) -> None:
        self._db.execute(
            "insert into events (at, job_id, name, detail, actor) values (?, ?, ?, ?, ?)",
            [now(), job_id, name, detail, self._actor],
        )

    def _rows(self, where: str, parameters: Iterable[Any]) -> list[Job]:
        rows = self._db.query(f"select * from jobs where {where}", list(parameters))
        return [Job.of(row) for row in rows]


def text_of(path: str | Path) -> str:
    """Return the path as the database stores it; bytes that are not UTF-8 become `\\xff` etc.

    No two paths have one text: where a name already contains such characters, its backslash is
    written as `\\x5c`.
    """
    raw = _LIKE_ESCAPED.sub(rb"\\x5c", os.fsencode(path))
    return raw.decode("utf-8", "backslashreplace")


def problem_of_name(path: Path) -> str | None:
    """Return why a scan cannot be processed under its path, None if it can."""
    if text_of(path) == str(path):
        return None
    if readable_text(str(path)) == str(path):
        return (
            "The name of the file, or of a folder above it, contains a backslash and x with two"
            " digits, as her2d writes bytes that are not UTF-8: rename it."
        )
    if readable_text(path.name) == path.name:
        return "The name of a folder above the file is not valid UTF-8: rename that folder."
    return "The file's name is not valid UTF-8: rename it and it is processed."


def _ended(reason: str, barcode: str | None) -> dict[str, Any]:
    return {"reason": reason, "finished_at": now(), "overdue_at": None, **_known(barcode)}


def _known(barcode: str | None) -> dict[str, Any]:
    """Return the field of a barcode that was read; one that an earlier attempt read stays."""
    return {} if barcode is None else {"barcode": barcode}


def _of_backfill(folder: Path, priority: int, backfill_id: int) -> dict[str, Any]:
    return {"inbox": str(folder), "priority": priority, "backfill_id": backfill_id}


def _one_less(attempts: int) -> int:
    return max(attempts - 1, 0)
