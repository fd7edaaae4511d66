"""Back-fills: folders of older scans that a person asked for, and how far each is.

All of it is in the database: the daemon searches the folders and works on the jobs, whether or not
a command watches, and goes on where it was after a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from her2d.queue.job import LEAST_NEW, JobState
from her2d.system.clock import as_text, now
from her2d.system.write_transaction import write_transaction

LEFT = (JobState.SETTLING, JobState.QUEUED, JobState.RUNNING, JobState.FAILED)
ENDED = tuple(state for state in JobState if state not in LEFT)

_LEFT = ", ".join(f"'{state}'" for state in LEFT)

# A rate is measured over the shortest of these in which enough slides ended, or else the longest.
_WINDOWS = (timedelta(hours=1), timedelta(days=1))
_ENOUGH, _FEWEST = 20, 3
_MOST = 1000  # ends that are counted, in a shorter time if there are more
_SHORTEST = timedelta(seconds=20)
# It stands still if no slide has ended for this long, and for this many times the usual.
_STILL, _STILL_TIMES = timedelta(minutes=10), 10


@dataclass(frozen=True, slots=True)
class Backfill:
    """One row of `backfills`; times are as stored.

    Attributes:
        searched_at: when all of the folder had been searched; None until then.
        files: scans that the search has found so far.
        problem: why the folder, or a part of it, cannot be searched; None if it can.
        paused_at: since when no job of it is claimed; None if they are.
    """

    id: int
    folder: Path
    requested_at: str
    searched_at: str | None
    files: int
    problem: str | None
    paused_at: str | None
    resumed_at: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Backfill":
        """Return the back-fill of a row of the table."""
        return cls(
            row["id"],
            Path(row["folder"]),
            row["requested_at"],
            row["searched_at"],
            row["files"],
            row["problem"],
            row["paused_at"],
            row["resumed_at"],
        )


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a back-fill is.

    Attributes:
        jobs: state -> number of its jobs.
        per_hour: slides that end in an hour, as measured lately; None if too few have ended.
        left_s: seconds until the last one ends at that rate; None if that cannot be told.
        still_s: seconds since a slide of it ended, or it began, if that is unusually long.
        before: new scans that are waiting, which go first.
    """

    backfill: Backfill
    jobs: Mapping[JobState, int]
    per_hour: float | None
    left_s: float | None
    still_s: float | None
    before: int

    @property
    def slides(self) -> int:
        return sum(self.jobs.values())

    @property
    def ended(self) -> int:
        return sum(self.jobs[state] for state in ENDED)

    @property
    def left(self) -> int:
        return self.slides - self.ended

    @property
    def is_complete(self) -> bool:
        """Whether the folder was searched and every slide has ended."""
        return self.backfill.searched_at is not None and self.left == 0

    @property
    def known(self) -> int:
        """Number of scans in the folder that had a job before, and got none by the back-fill."""
        return max(0, self.backfill.files - self.slides)


class Backfills:
    """The back-fills of one database, through a connection that stays in one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> list[Backfill]:
        """Return all back-fills, the oldest first."""
        return self._rows("1")

    def to_search(self) -> list[Backfill]:
        """Return those whose folder is to be searched now."""
        return self._rows("searched_at is null and paused_at is null")

    def request(self, folder: Path, actor: str) -> Backfill:
        """Ask for the scans in a folder, or for those that are new in it since the last time."""
        with write_transaction(self._db):
            self._db.execute(
                "insert into backfills (folder, requested_at, requested_by) values (?, ?, ?)"
                " on conflict (folder) do update set searched_at = null, files = 0, problem = null,"
                " requested_at = iif(exists (select 1 from jobs where backfill_id = backfills.id"
                f" and state in ({_LEFT})), requested_at, excluded.requested_at)",
                [str(folder), now(), actor],
            )
            self._record("backfill_requested", folder, actor)
        (found,) = [each for each in self.all() if each.folder == folder]
        return found

    def pause(self, backfill: Backfill, actor: str) -> None:
        """Claim none of its jobs until it is resumed. Slides that are being scored are finished."""
        self._set(backfill, "paused_at = coalesce(paused_at, ?)", "backfill_paused", actor)

    def resume(self, backfill: Backfill, actor: str) -> None:
        """Claim its jobs again."""
        self._set(backfill, "paused_at = null, resumed_at = ?", "backfill_resumed", actor)

    def found(self, backfill: Backfill, files: int) -> None:
        """Note how many scans the search of the folder has found so far."""
        self._db.execute("update backfills set files = ? where id = ?", [files, backfill.id])

    def searched(self, backfill: Backfill, files: int, problem: str | None) -> bool:
        """Note that all of the folder has been searched, except what `problem` says.

        Returns:
            False if it was requested again since `found` noted so many files.
        """
        cursor = self._db.execute(
            "update backfills set searched_at = ?, problem = ? where id = ? and files = ?",
            [now(), problem, backfill.id, files],
        )
        return bool(cursor.rowcount)

    def cannot_search(self, backfill: Backfill, problem: str) -> None:
        """Note why the folder cannot be searched now."""
        self._db.execute("update backfills set problem = ? where id = ?", [problem, backfill.id])

    def progress(self, backfill: Backfill, at: datetime | None = None) -> BackfillProgress:
        """Return how far a back-fill is.

        Args:
            backfill: the back-fill.
            at: the present, in UTC.
        """
        at = at or datetime.now(UTC)
        rows = self._db.execute(
            "select state, sum(number) from job_counts"
            " where source = (select source from backfills where id = ?) group by state",
            [backfill.id],
        )
        counts = {JobState(state): int(number) for state, number in rows}
        jobs = {state: counts.get(state, 0) for state in JobState}
        left = sum(jobs[state] for state in LEFT)
        rate = still = None
        if backfill.paused_at is None and left:
            times = filter(None, (backfill.requested_at, backfill.resumed_at))
            began = max(map(datetime.fromisoformat, times))
            rate = self._per_second(backfill, began, at)
            still = self._still(backfill, began, at, rate)
        is_moving = rate is not None and still is None and backfill.searched_at is not None
        return BackfillProgress(
            backfill,
            jobs,
            None if rate is None else 3600 * rate,
            left / rate if is_moving and rate else None,
            still,
            self._new_scans(),
        )

    def _per_second(self, backfill: Backfill, began: datetime, at: datetime) -> float | None:
        """Return how many slides end in a second, counted until now so that a halt shows."""
        ended, since = 0, at
        for window in _WINDOWS:
            since = max(began, at - window)
            times = self._ends_since(backfill, since)
            ended = len(times)
            if ended == _MOST:
                since = datetime.fromisoformat(times[-1])
            if ended >= _ENOUGH or since == began:
                break
        if ended < _FEWEST or at - began < _SHORTEST or at <= since:
            return None
        return ended / (at - since).total_seconds()

    def _still(
        self, backfill: Backfill, began: datetime, at: datetime, rate: float | None
    ) -> float | None:
        last_ends = self._of_each_end("max(finished_at) as at")
        (last,) = self._db.execute(
            f"select max(at) from ({' union all '.join(last_ends)})",
            {"id": backfill.id, "since": as_text(began)},
        ).fetchone()
        silent = at - (began if last is None else datetime.fromisoformat(last))
        usual = timedelta(0) if rate is None else timedelta(seconds=1 / rate)
        return silent.total_seconds() if silent > max(_STILL, _STILL_TIMES * usual) else None

    def _ends_since(self, backfill: Backfill, since: datetime) -> list[str]:
        """Return the times of the newest ends, the newest first."""
        of_each_state = " union all ".join(
            f"select * from ({ends} order by finished_at desc limit {_MOST})"
            for ends in self._of_each_end("finished_at")
        )
        rows = self._db.execute(
            f"select finished_at from ({of_each_state}) order by finished_at desc limit {_MOST}",
            {"id": backfill.id, "since": as_text(since)},
        )
        return [at for (at,) in rows]

    @staticmethod
    def _of_each_end(value: str) -> list[str]:
        """Return queries that read the jobs of one final state each by their index."""
        return [
            f"select {value} from jobs indexed by jobs_by_backfill"
            f" where backfill_id = :id and state = '{state}' and finished_at >= :since"
            for state in ENDED
        ]

    def _new_scans(self) -> int:
        (number,) = self._db.execute(
            "select total(number) from job_counts"
            " where state in ('queued', 'failed') and priority >= ?",
            [LEAST_NEW],
        ).fetchone()
        return int(number)

    def _set(self, backfill: Backfill, change: str, event: str, actor: str) -> None:
        with write_transaction(self._db):
            self._db.execute(f"update backfills set {change} where id = ?", [now(), backfill.id])
            self._record(event, backfill.folder, actor)

    def _record(self, name: str, folder: Path, actor: str) -> None:
        """Record what a person did, in the caller's transaction."""
        self._db.execute(
            "insert into events (at, name, detail, actor) values (?, ?, ?, ?)",
            [now(), name, str(folder), actor],
        )

    def _rows(self, where: str) -> list[Backfill]:
        rows = self._db.query(f"select * from backfills where {where} order by id")
        return [Backfill.of(row) for row in rows]
