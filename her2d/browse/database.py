"""Queries of the results' database, read-only and with limits of time and memory.

Each query has its own connection, which is closed afterwards. So the database may be restored,
replaced or opened by the daemon while the browser's server runs, and no reader keeps the
write-ahead log from being cut.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from her2d.browse.workers import TooBusy
from her2d.db.connection import DatabaseError, open_readonly
from her2d.errors import Her2dError

Result = TypeVar("Result")

_BUSY_S = 2.0
_SECONDS = 10.0
_HEAP_BYTES = 128 << 20
_AGAIN = 2


class QueryTooHeavy(Her2dError):  # noqa: N818  the name is the problem
    """A query needs more time, memory or rows than a request may take."""


class ResultsDatabase:
    """The results' database. Safe to use from several threads.

    Args:
        path: the database file.
        seconds: how long a query may take.
    """

    def __init__(self, path: Path, *, seconds: float = _SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def run(self, query: Callable[[Database], Result]) -> Result:
        """Run a query, which must have read its rows when it returns.

        Raises:
            QueryTooHeavy: it took too long, or too much memory.
            TooBusy: another program has locked the whole database.
            DatabaseError: the database cannot be read.
        """
        deadline = time.monotonic() + self._seconds
        for attempt in range(_AGAIN):
            try:
                return self._once(query, deadline)
            except MemoryError as error:
                raise QueryTooHeavy("The query needs too much memory.") from error
            except sqlite3.Error as error:
                kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if kind == sqlite3.SQLITE_INTERRUPT:
                    if time.monotonic() < deadline and attempt + 1 < _AGAIN:
                        continue  # the daemon has just opened a database that nobody had open
                    raise QueryTooHeavy(
                        f"The query took longer than {self._seconds:g} s and was stopped."
                    ) from error
                if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise TooBusy(
                        "Another program has locked the database. Try again in a moment."
                    ) from error
                raise DatabaseError(f"The database cannot be read: {error}.") from error
        raise AssertionError("unreachable")

    def _once(self, query: Callable[[Database], Result], deadline: float) -> Result:
        db = open_readonly(
            self._path,
            busy_timeout_s=_BUSY_S,
            interrupt_if=lambda: time.monotonic() > deadline,
        )
        try:
            return query(db)
        finally:
            db.close()


def limit_memory_of_queries() -> None:
    """Limit the memory of all of this process's queries together; it cannot be raised again."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"pragma hard_heap_limit = {_HEAP_BYTES}")
    connection.close()
