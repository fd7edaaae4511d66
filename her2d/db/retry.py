"""Repeat a write while the database is locked, is full, or cannot be written for another reason."""

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from her2d.errors import Her2dError
from her2d.system.backoff import Backoff
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)

# Primary result codes of problems that may end without our help: https://sqlite.org/rescode.html
_TEMPORARY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)

T = TypeVar("T")


class WriteCancelledError(Her2dError):
    """The caller cancelled a write before the database accepted it."""


def is_temporary(error: sqlite3.Error) -> bool:
    """Return whether the same write may succeed later."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _TEMPORARY


def until_written(
    write: Callable[[], T], cancel: threading.Event, waiting: Callable[[], None] = lambda: None
) -> T:
    """Call `write` until the database accepts it.

    Args:
        write: runs one transaction, so that an attempt that failed changed nothing.
        cancel: ends the waiting when it is set.
        waiting: called after each failed attempt, so that the caller can report that it waits for
            the database and has not stalled.

    Returns:
        What `write` returned.

    Raises:
        WriteCancelledError: `cancel` was set before the database accepted the write.
        sqlite3.Error: the write failed for a reason that waiting does not change.
    """
    attempts = 0
    while True:
        try:
            return write()
        except sqlite3.Error as error:
            if not is_temporary(error):
                raise
            attempts += 1
            wait_s = _BACKOFF.wait_s(attempts)
            log.warning("write_waits_for_database", reason=str(error), again_in_s=wait_s)
            waiting()
            if cancel.wait(wait_s):
                raise WriteCancelledError(
                    "Stopped before the database could be written."
                ) from error
