"""The durable queue: one row of `jobs` for each finished or unfinished file, and its state.

    settling -> queued -> running -> done | failed (will retry) | quarantined (won't) |
    duplicate | vanished

Every change of state is one SQL statement together with its event, so a crash leaves a job in the
state before or the state after. `done` is written by `her2d.results` in the result's transaction.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from her2d.intake.identity import FileState

_FIRST_RETRY_S = 30.0
_LONGEST_RETRY_S = 3600.0


class JobState(StrEnum):
    """The job states of the design."""

    SETTLING = "settling"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    VANISHED = "vanished"


LIVE = (JobState.SETTLING, JobState.QUEUED, JobState.RUNNING, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of `jobs`; times are UTC ISO-8601 text as stored."""

    id: int
    path: Path
    state: JobState
    reason: str | None
    attempts: int
    size: int
    mtime_ns: int
    discovered_at: str
    queued_at: str | None
    slide_id: int | None


class JobQueue:
    """The jobs of one database, through a connection that stays in one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def database(self) -> Database:
        """The connection, for what must share a transaction with a job's end."""
        return self._db

    def discover(self, path: Path, inbox: Path, state: FileState) -> Job | None:
        """Begin a settling job for a file, unless it is known already.

        Known is a path with a live job, or one whose last job saw this size and mtime.
        """
        with self._db.atomic():
            rows = self._rows("path = ? order by id desc limit 1", [str(path)])
            if rows and (
                rows[0].state in LIVE
                or (rows[0].size, rows[0].mtime_ns) == (state.size, state.mtime_ns)
            ):
                return None
            cursor = self._db.execute(
                "insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [
                    str(path),
                    path.name,
                    str(inbox),
                    JobState.SETTLING,
                    state.size,
                    state.mtime_ns,
                    now(),
                ],
            )
            job_id = int(cursor.lastrowid or 0)
            self._event(job_id, "discovered", None)
        return self.get(job_id)

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

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        rows = self._db.query("select state, count(*) as n from jobs group by state")
        found = {JobState(row["state"]): int(row["n"]) for row in rows}
        return {state: found.get(state, 0) for state in JobState}

    def still_settling(self, job_id: int, state: FileState) -> None:
        """Note a settling file's new size and mtime."""
        self._db.execute(
            "update jobs set size = ?, mtime_ns = ? where id = ? and state = ?",
            [state.size, state.mtime_ns, job_id, JobState.SETTLING],
        )

    def queue(self, job_id: int) -> None:
        """A settled, complete file is ready to run."""
        self._move(
            job_id, JobState.QUEUED, {"queued_at": now(), "reason": None, "not_before": None}
        )

    def claim(self) -> Job | None:
        """Take the next job that is due, atomically: no two callers get the same one."""
        at = now()
        with self._db.atomic():
            rows = list(
                self._db.query(
                    "update jobs set state = 'running', attempts = attempts + 1, started_at = :at,"
                    " heartbeat_at = :at where id = (select id from jobs"
                    " where state in ('queued', 'failed')"
                    " and (not_before is null or not_before <= :at)"
                    " order by priority desc, id limit 1) returning *",
                    {"at": at},
                )
            )
            if not rows:
                return None
            job = _job(rows[0])
            self._event(job.id, "running", None)
        return job

    def retry_later(self, job: Job, reason: str, *, max_attempts: int) -> JobState:
        """A try failed for a reason that may pass: try again later, or quarantine after the last.

        The wait doubles with each attempt, with jitter so that jobs that failed together do not
        return together.
        """
        if job.attempts >= max_attempts:
            self.quarantine(job.id, f"{reason} Given up after {job.attempts} attempts.")
            return JobState.QUARANTINED
        wait = min(_FIRST_RETRY_S * 2.0 ** (job.attempts - 1), _LONGEST_RETRY_S)
        wait *= random.uniform(0.75, 1.25)
        due = _text(datetime.now(UTC) + timedelta(seconds=wait))
        self._move(job.id, JobState.FAILED, {"reason": reason, "not_before": due})
        return JobState.FAILED

    def quarantine(self, job_id: int, reason: str) -> None:
        """This file will not be tried again as it is; `reason` is for a technician."""
        self._move(job_id, JobState.QUARANTINED, {"reason": reason, "finished_at": now()})

    def refuse(self, path: Path, state: FileState, reason: str) -> Job:
        """Record that a file which never was in an inbox cannot be processed, and why."""
        with self._db.atomic():
            cursor = self._db.execute(
                "insert into jobs (path, file_name, inbox, state, reason, attempts, size, mtime_ns,"
                " discovered_at, finished_at)"
                " values (:path, :name, '', :state, :reason, 1, :size, :mtime, :at, :at)",
                {
                    "path": str(path),
                    "name": path.name,
                    "state": JobState.QUARANTINED,
                    "reason": reason,
                    "size": state.size,
                    "mtime": state.mtime_ns,
                    "at": now(),
                },
            )
            job_id = int(cursor.lastrowid or 0)
            self._event(job_id, JobState.QUARANTINED, reason)
        return self.get(job_id)

    def vanished(self, job_id: int) -> None:
        self._move(
            job_id,
            JobState.VANISHED,
            {"reason": "The file was removed or renamed.", "finished_at": now()},
        )

    def duplicate(self, job_id: int, slide_id: int, content_hash: str) -> None:
        """The same bytes have a result already."""
        fields = {
            "reason": f"The same scan was already processed as slide {slide_id}.",
            "slide_id": slide_id,
            "content_hash": content_hash,
            "finished_at": now(),
        }
        self._move(job_id, JobState.DUPLICATE, fields)

    def settle_again(self, job_id: int, reason: str) -> None:
        """The file changed while it was read: begin anew, which costs no attempt."""
        self._db.execute("update jobs set attempts = max(attempts - 1, 0) where id = ?", [job_id])
        self._move(job_id, JobState.SETTLING, {"reason": reason, "queued_at": None})

    def give_back(self, job_id: int) -> None:
        """Stopping: the job runs again at the next start, at no cost of an attempt."""
        self._db.execute("update jobs set attempts = max(attempts - 1, 0) where id = ?", [job_id])
        self._move(job_id, JobState.QUEUED, {"started_at": None, "heartbeat_at": None})

    def retry(self, job_id: int) -> bool:
        """Queue a job that stopped without a result; False where it did not, or isn't there."""
        stopped = (JobState.FAILED, JobState.QUARANTINED, JobState.DUPLICATE)
        fields = {"reason": None, "not_before": None, "attempts": 0, "queued_at": now()}
        return self._move_from(stopped, job_id, JobState.QUEUED, fields)

    def cancel(self, job_id: int) -> bool:
        """Quarantine a job that waits; False where it runs, has ended, or isn't there."""
        waiting = (JobState.SETTLING, JobState.QUEUED, JobState.FAILED)
        fields = {"reason": "Cancelled by hand.", "finished_at": now()}
        return self._move_from(waiting, job_id, JobState.QUARANTINED, fields)

    def recover(self) -> int:
        """At start: jobs that a daemon died on are queued again. Returns how many."""
        stranded = self.in_state(JobState.RUNNING)
        for job in stranded:
            self._move(job.id, JobState.QUEUED, {"started_at": None, "heartbeat_at": None})
        return len(stranded)

    def _move(self, job_id: int, state: JobState, fields: Mapping[str, Any]) -> None:
        self._move_from(tuple(JobState), job_id, state, fields)

    def _move_from(
        self, states: Sequence[JobState], job_id: int, state: JobState, fields: Mapping[str, Any]
    ) -> bool:
        columns = "".join(f", {name} = :{name}" for name in fields)
        allowed = ", ".join(f"'{allowed}'" for allowed in states)
        with self._db.atomic():
            cursor = self._db.execute(
                f"update jobs set state = :state{columns} where id = :id and state in ({allowed})",
                {"state": state, "id": job_id, **fields},
            )
            if cursor.rowcount == 0:
                return False
            self._event(job_id, state, fields.get("reason"))
        return True

    def _event(self, job_id: int, name: str, detail: str | None) -> None:
        self._db.execute(
            "insert into events (at, job_id, name, detail) values (?, ?, ?, ?)",
            [now(), job_id, name, detail],
        )

    def _rows(self, where: str, parameters: Iterable[Any]) -> list[Job]:
        rows = self._db.query(f"select * from jobs where {where}", list(parameters))
        return [_job(row) for row in rows]


def now() -> str:
    """The time as the database writes it: UTC ISO-8601 with microseconds and Z."""
    return _text(datetime.now(UTC))


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _job(row: Mapping[str, Any]) -> Job:
    return Job(
        id=row["id"],
        path=Path(row["path"]),
        state=JobState(row["state"]),
        reason=row["reason"],
        attempts=row["attempts"],
        size=row["size"],
        mtime_ns=row["mtime_ns"],
        discovered_at=row["discovered_at"],
        queued_at=row["queued_at"],
        slide_id=row["slide_id"],
    )
