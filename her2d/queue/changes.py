"""Which jobs came into a state, and which left it, since the last time."""

from sqlite_utils import Database

from her2d.queue.job import JobState

_NEWEST_EVENT = "select coalesce(max(id), 0) from events"
_CHANGED = """
    select id, state = :state from jobs where id in (
        select job_id from events where id > :last and id <= :newest and job_id is not null)
"""


class StateChanges:
    """The jobs that entered and left one state, through a connection that stays in one thread.

    Every change of a state, by the daemon or by a command, is a row of `events`. So a call reads
    what has changed since the one before, however many jobs are in the state.
    """

    def __init__(self, db: Database, state: JobState) -> None:
        self._db = db
        self._state = state
        self._last: int | None = None

    def take(self) -> tuple[list[int], list[int]]:
        """Return the ids of jobs in the state, and of jobs that are not, oldest first.

        The first call returns all jobs in the state, and further ones those that changed since. A
        job that left the state and is in it again is among the first.

        Raises:
            sqlite3.Error: the database failed; the next call returns what this one would have.
        """
        (newest,) = self._db.execute(_NEWEST_EVENT).fetchone()
        if self._last is None or newest < self._last:
            rows = self._db.execute("select id, 1 from jobs where state = ?", [self._state])
        else:
            values = {"state": self._state, "last": self._last, "newest": newest}
            rows = self._db.execute(_CHANGED, values)
        found = sorted(rows.fetchall())
        self._last = newest
        return [id_ for id_, is_in in found if is_in], [id_ for id_, is_in in found if not is_in]
