"""The durable queue: one row of `jobs` for each finished or unfinished file, and its state.

    settling -> queued -> running -> done | failed (will retry) | quarantined (won't) |
    duplicate | vanished

Every change of state is one transaction together with its event, so a crash leaves a job in the
state before or the state after. A change applies to the job as the caller knows it: one that
somebody else has moved or claimed meanwhile stays as it is. `done` is written by `her2d.results`
in the result's transaction.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from her2d.queue.job import (
    FREE_INTERRUPTIONS,
    LIVE,
    MOST_INTERRUPTIONS,
    NEW_SCAN,
    RETRY,
    Job,
    JobState,
    interruption_wait_s,
)
from her2d.system.clock import in_seconds, now
from her2d.system.file_identity import FileState

_INSERT = (
    "insert into jobs (path, file_name, inbox, state, priority, size, mtime_ns, inode,"
    " discovered_at, reason, attempts, finished_at) values (:path, :name, :inbox, :state,"
    " :priority, :size, :mtime, :inode, :at, :reason, :attempts, :finished)"
)

_CLAIM = """
    update jobs set state = 'running', attempts = attempts + 1, claim = claim + 1,
        content_hash = null, started_at = :at, heartbeat_at = :at
    where id = (
        select id from (
            select id, interruptions from jobs
            where state in ('queued', 'failed')
              and (not_before is null or not_before <= :at or not_before > :longest)
            order by priority desc, interruptions, id limit 1) as head
        where not exists (select 1 from jobs as running where running.state = 'running'
                          and (running.interruptions > :free or head.interruptions > :free)))
    returning *
"""


class JobQueue:
    """The jobs of one database, through a connection that stays in one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def database(self) -> Database:
        """The connection, for what must share a transaction with a job's end."""
        return self._db

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction, and so one fsync, for all changes in the block.

        It holds the database's one writing lock from the start: what it reads stays true.
        """
        self._db.execute("begin immediate")
        try:
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise

    # Asking.

    def get(self, job_id: int) -> Job:
        """Raises KeyError for an id that is not there."""
        rows = self._rows("id = ?", [job_id])
        if not rows:
            raise KeyError(job_id)
        return rows[0]

    def in_state(self, *states: JobState) -> list[Job]:
        """Jobs in any of `states`, oldest first; none given means all."""
        if not states:
            return self._rows("1 order by id", [])
        marks = ", ".join("?" for _ in states)
        return self._rows(f"state in ({marks}) order by id", list(states))

    def ids_in(self, state: JobState) -> list[int]:
        """Ids of the jobs in `state`, oldest first: little to hold, however many they are."""
        rows = self._db.query("select id from jobs where state = ? order by id", [state])
        return [int(row["id"]) for row in rows]

    def inboxes(self) -> set[Path]:
        """The inboxes of jobs that have not ended, whatever the settings name now."""
        states = [JobState.SETTLING, JobState.QUEUED, JobState.RUNNING, JobState.FAILED]
        marks = ", ".join("?" for _ in states)
        rows = self._db.query(f"select distinct inbox from jobs where state in ({marks})", states)
        return {Path(row["inbox"]) for row in rows if row["inbox"]}

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        rows = self._db.query("select state, count(*) as n from jobs group by state")
        found = {JobState(row["state"]): int(row["n"]) for row in rows}
        return {state: found.get(state, 0) for state in JobState}

    def newest_of(self, path: Path) -> Job | None:
        """The last job of a path."""
        rows = self._rows("path = ? order by id desc limit 1", [text_of(path)])
        return rows[0] if rows else None

    # Finding and settling.

    def discover(
        self, path: Path, inbox: Path, state: FileState, priority: int = NEW_SCAN
    ) -> Job | None:
        """Begin a settling job for a file, unless it is known already.

        Known is a path with a live job, or one whose last job saw this very file. A file that had
        vanished and is there again goes on with the job it had.
        """
        known = self.newest_of(path)
        if known is not None:
            if self.knows(known, state):
                return None
            if known.state is JobState.VANISHED:
                return self._found_again(known, state)
        try:
            return self._insert(path, str(inbox), state, JobState.SETTLING, priority=priority)
        except sqlite3.IntegrityError:
            return None  # Somebody queued this path between the look and the insertion.

    @staticmethod
    def knows(newest: Job, state: FileState) -> bool:
        """Whether a file that looks like `state` is the business of its path's newest job."""
        if newest.state is JobState.VANISHED:
            return False
        return newest.state in LIVE or state.same_file(_state_of(newest))

    def _found_again(self, job: Job, state: FileState) -> Job | None:
        """It may be another scan of that name: nothing that befell the first counts."""
        fields = {
            "reason": None,
            "size": state.size,
            "mtime_ns": state.mtime_ns,
            "inode": state.inode,
            "attempts": 0,
            "interruptions": 0,
            "queued_at": None,
            "not_before": None,
            "finished_at": None,
            "archived_path": None,
            "archived_at": None,
        }
        return self.get(job.id) if self.move(job, JobState.SETTLING, fields) else None

    def archive_after_all(self, job: Job) -> None:
        """The file of a finished job was away when it was to be filed, and is there again."""
        self._db.execute(
            "update jobs set archived_at = null where id = ? and archived_path is null", [job.id]
        )

    def refuse(
        self, path: Path, state: FileState, reason: str, *, inbox: Path | None = None
    ) -> Job:
        """Record that a file which was never queued cannot be processed, and why."""
        return self._insert(
            path, str(inbox or ""), state, JobState.QUARANTINED, reason=reason, attempts=1
        )

    def once_more(self, job: Job, *, priority: int) -> Job:
        """A new job for a finished file, queued at once: it settled long ago."""
        again = self._insert(
            job.whereabouts,
            str(job.inbox or ""),
            _state_of(job),
            JobState.SETTLING,
            priority=priority,
        )
        self.queue(again)
        return self.get(again.id)

    def still_settling(self, job: Job, state: FileState) -> None:
        """Note a settling file's new size and mtime, which end any delay that was reported."""
        self._db.execute(
            "update jobs set size = ?, mtime_ns = ?, inode = ?, overdue_at = null, reason = null"
            " where id = ? and state = ?",
            [state.size, state.mtime_ns, state.inode, job.id, JobState.SETTLING],
        )

    def waits(self, job: Job, reason: str) -> None:
        """Note what a settling file lacks, for whoever looks; it is no event."""
        self._db.execute(
            "update jobs set reason = ? where id = ? and state = ?",
            [reason, job.id, JobState.SETTLING],
        )

    def overdue(self, job: Job, reason: str) -> None:
        """Report a file that has stayed incomplete for too long; it goes on settling."""
        with self._db.atomic():
            self._db.execute(
                "update jobs set overdue_at = ?, reason = ? where id = ? and state = ?",
                [now(), reason, job.id, JobState.SETTLING],
            )
            self._event(job.id, "overdue", reason)

    def queue(self, job: Job) -> bool:
        """A settled, complete file is ready to run."""
        fields = {"queued_at": now(), "reason": None, "not_before": None, "overdue_at": None}
        return self.move(job, JobState.QUEUED, fields)

    # Running.

    def claim(self) -> Job | None:
        """Take the next job that is due, atomically: no two callers get the same one.

        Higher priorities first; among equals those that no daemon died on, then the oldest. A file
        that several daemons died on runs alone, lest the files beside it share the blame; where it
        is its turn nobody gets another until those that run have ended. A wait
        longer than any that is ever set means that the clock was put back: it counts as over.
        """
        with self._db.atomic():
            rows = list(
                self._db.query(
                    _CLAIM,
                    {
                        "at": now(),
                        "longest": in_seconds(RETRY.longest_s + 1),
                        "free": FREE_INTERRUPTIONS,
                    },
                )
            )
            if not rows:
                return None
            job = Job.of(rows[0])
            self._event(job.id, "running", None)
        return job

    def holds(self, job: Job) -> bool:
        """Whether the claim still stands. Within a transaction, nobody can take it until the end:
        it writes, and SQLite has one writer."""
        cursor = self._db.execute(
            "update jobs set heartbeat_at = ? where id = ? and claim = ? and state = 'running'",
            [now(), job.id, job.claim],
        )
        return cursor.rowcount == 1

    def hashed(self, job: Job, content_hash: str) -> None:
        """Note a claimed job's content: from here on it is the file that is worked on, no longer
        the storage under it."""
        self._db.execute(
            "update jobs set content_hash = ? where id = ? and claim = ? and state = 'running'",
            [content_hash, job.id, job.claim],
        )

    def beat(self, job_ids: Sequence[int]) -> None:
        """Note that somebody works on these jobs."""
        if job_ids:
            marks = ", ".join("?" for _ in job_ids)
            self._db.execute(
                f"update jobs set heartbeat_at = ? where state = 'running' and id in ({marks})",
                [now(), *job_ids],
            )

    def retry_later(self, job: Job, reason: str, *, max_attempts: int) -> JobState:
        """A try failed for a reason that may pass: try again later, or quarantine after the last.

        Returns the state that puts it in.
        """
        if job.attempts >= max_attempts:
            self.quarantine(job, f"{reason} Given up after {job.attempts} attempts.")
            return JobState.QUARANTINED
        due = in_seconds(RETRY.wait_s(job.attempts))
        self.move(job, JobState.FAILED, {"reason": reason, "not_before": due})
        return JobState.FAILED

    def postpone(self, job: Job, reason: str, wait_s: float) -> bool:
        """Not the file's fault: try again in `wait_s` seconds, at no cost of an attempt."""
        fields = {
            "reason": reason,
            "not_before": in_seconds(wait_s),
            "attempts": _one_less(job.attempts),
        }
        return self.move(job, JobState.FAILED, fields, event="postponed")

    def quarantine(self, job: Job, reason: str) -> bool:
        """This file will not be tried again as it is; `reason` is for a technician."""
        fields = {"reason": reason, "finished_at": now(), "overdue_at": None}
        return self.move(job, JobState.QUARANTINED, fields)

    def vanished(self, job: Job) -> bool:
        fields = {"reason": "The file was removed or renamed.", "finished_at": now()}
        return self.move(job, JobState.VANISHED, fields)

    def duplicate(self, job: Job, slide_id: int, content_hash: str) -> bool:
        """The same bytes have a result already."""
        fields = {
            "reason": f"The same scan was already processed as slide {slide_id}.",
            "slide_id": slide_id,
            "content_hash": content_hash,
            "finished_at": now(),
        }
        return self.move(job, JobState.DUPLICATE, fields)

    def settle_again(self, job: Job, reason: str) -> bool:
        """The file changed or could not be reached: begin anew, at no cost of an attempt."""
        fields = {"reason": reason, "queued_at": None, "attempts": _one_less(job.attempts)}
        return self.move(job, JobState.SETTLING, fields)

    def give_back(self, job: Job) -> bool:
        """Stopping: the job runs again at the next start, at no cost of an attempt."""
        fields = {
            "started_at": None,
            "heartbeat_at": None,
            "attempts": _one_less(job.attempts),
        }
        return self.move(job, JobState.QUEUED, fields)

    def recover(self) -> list[Job]:
        """At start: take up again what a daemon died on. Returns the jobs."""
        stranded = self.in_state(JobState.RUNNING)
        for job in stranded:
            self.take_up_again(job)
        return stranded

    def take_up_again(self, job: Job) -> JobState:
        """Nobody works on this running job any more: queue it, at no cost of an attempt.

        A file that this happens to again and again is quarantined: it may be the cause. One that
        was not even read to its end is not: storage that hangs has daemons killed, too.
        """
        read = self.get(job.id).content_hash is not None
        interruptions = job.interruptions + read
        fields: dict[str, Any] = {"interruptions": interruptions, "heartbeat_at": None}
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

    # What all of these rest on.

    def move(
        self, job: Job, state: JobState, fields: Mapping[str, Any], *, event: str | None = None
    ) -> bool:
        """Change the job's state and `fields` if it is still as `job` says; False where not.

        A new state is an event, named as the state is unless told otherwise.
        """
        columns = "".join(f", {name} = :{name}" for name in fields)
        with self._db.atomic():
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
            if state is not job.state:
                self._event(job.id, event or state, fields.get("reason"))
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
    ) -> Job:
        at = now()
        with self._db.atomic():
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
                    "at": at,
                    "reason": reason,
                    "attempts": attempts,
                    "finished": None if state in LIVE else at,
                },
            )
            job_id = int(cursor.lastrowid or 0)
            self._event(job_id, "discovered" if state in LIVE else state, reason)
        return self.get(job_id)

    def _event(self, job_id: int, name: str, detail: str | None) -> None:
        self._db.execute(
            "insert into events (at, job_id, name, detail) values (?, ?, ?, ?)",
            [now(), job_id, name, detail],
        )

    def _rows(self, where: str, parameters: Iterable[Any]) -> list[Job]:
        rows = self._db.query(f"select * from jobs where {where}", list(parameters))
        return [Job.of(row) for row in rows]


def text_of(path: Path) -> str:
    """The path as the database holds it; bytes that are no UTF-8 become `\\xff` and so on."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _state_of(job: Job) -> FileState:
    return FileState(job.inode, job.size, job.mtime_ns)


def _one_less(attempts: int) -> int:
    return max(attempts - 1, 0)
