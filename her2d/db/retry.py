"""Writing to a database that others lock, that is full, or that cannot be written for a while."""

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from her2d.errors import Her2dError

log = structlog.get_logger(__name__)

_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0

# Primary result codes of what passes by itself: https://sqlite.org/rescode.html
_PASSING = frozenset(
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
    """The daemon stops, and the database could not be written before."""


def passes(error: sqlite3.Error) -> bool:
    """Whether the same write may succeed later."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _PASSING


def until_written(
    write: Callable[[], T], cancel: threading.Event, waiting: Callable[[], None] = lambda: None
) -> T:
    """What `write` returns, once the database lets it; `write` is one transaction.

    `waiting` is called after each try that failed: to wait for the database is no standstill.

    Raises:
        WriteCancelledError: `cancel` was set first.
        sqlite3.Error: one that no waiting helps.
    """
    wait = _WAIT_S
    while True:
        try:
            return write()
        except sqlite3.Error as error:
            if not passes(error):
                raise
            log.warning("write_waits_for_database", reason=str(error), again_in_s=wait)
            waiting()
            if cancel.wait(wait):
                raise WriteCancelledError(
                    "Stopped before the database could be written."
                ) from error
            wait = min(2 * wait, _LONGEST_WAIT_S)
