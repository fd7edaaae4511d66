"""Watch the database's files under the running daemon, and keep its log short.

SQLite continues to write to files that were removed, and everything written there is lost.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from sqlite_utils import Database

from her2d.db.connection import DatabaseError
from her2d.db.lock import LockedDatabase
from her2d.db.write_ahead_log import cut_log, log_of
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_CUT_EVERY_S = 60.0
_CUT_PATIENCE_MS = 200
_LARGE_LOG_BYTES = 64_000_000
_SHORT_FOR_S = 10.0

# https://sqlite.org/fileformat.html, section 1.3: the magic string, and at these offsets the page
# size, the file's change counter, its number of pages, and the counter for which that is valid.
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_PAGE_SIZE, _COUNTER = slice(16, 18), slice(24, 28)
_PAGES, _VALID_FOR = slice(28, 32), slice(92, 96)
_REMEDY = "The runbook says what to do under Her2dDatabaseUnreadable."


class DatabaseWatch:
    """Watches one database. For the thread that opened `db`.

    Args:
        locked: the database file, as the daemon opened it at its start.
        db: a connection to it, which has been read from.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        locked: LockedDatabase,
        db: Database,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._locked = locked
        self._db = db
        self._clock = clock
        self._log = log_of(locked.path)
        self._log_as_opened = self._log.stat() if self._log.exists() else None
        self._short: tuple[bytes, int] | None = None
        self._short_since = 0.0
        self._next_cut = clock() + _CUT_EVERY_S
        self._log_stays = False

    def check(self) -> None:
        """Check the files, and cut the log each minute.

        Raises:
            DatabaseError: the database or its log was removed, replaced or truncated. No more can
                be recorded.
            sqlite3.Error: the database failed; the next call does the rest.
        """
        self._require_same_file()
        self._require_whole_file()
        self._require_same_log()
        if self._clock() >= self._next_cut:
            self._next_cut = self._clock() + _CUT_EVERY_S
            self._cut_log()

    def damage(self, cause: str) -> DatabaseError:
        """Return the error for a database that SQLite finds damaged.

        SQLite may meet a file that was removed or truncated before this does, and says less of it.

        Args:
            cause: what SQLite says.
        """
        try:
            self._require_same_file()
            self._require_whole_file()
        except DatabaseError as lost:
            return lost
        return damaged(self._locked.path, cause)

    def _require_same_file(self) -> None:
        database = self._locked.path
        try:
            same = os.path.samestat(database.stat(), self._locked.status())
        except FileNotFoundError:
            same = False
        except OSError as error:
            log.warning("database_unreachable", reason=str(error))
            return
        if not same:
            raise DatabaseError(
                f"The database {database} was removed or replaced while her2d was running."
                f" {_REMEDY}"
            )

    def _require_whole_file(self) -> None:
        """Raise DatabaseError if the file is shorter than its header says.

        While SQLite writes the log back to a file that grows, it is so for a moment.
        """
        try:
            size, header = self._locked.status().st_size, self._locked.read(_HEADER_BYTES)
        except OSError as error:
            log.warning("database_unreachable", reason=str(error))
            return
        if len(header) == _HEADER_BYTES and header.startswith(_MAGIC):
            if size >= _bytes_by(header):
                self._short = None
                return
            if self._short != (header, size):
                self._short, self._short_since = (header, size), self._clock()
            if self._clock() - self._short_since < _SHORT_FOR_S:
                return
        raise DatabaseError(
            f"The database {self._locked.path} was truncated or overwritten while her2d was"
            f" running. {_REMEDY}"
        )

    def _require_same_log(self) -> None:
        """Raise DatabaseError if the log was removed, after saving what this process can.

        The connections of this process still read and write the removed file. SQLite itself
        removes the log only when the last connection is closed.
        """
        try:
            found = self._log.stat()
        except FileNotFoundError:
            found = None
        except OSError as error:
            log.warning("database_unreachable", reason=str(error))
            return
        if self._log_as_opened is None:
            self._log_as_opened = found
            return
        if found is not None and os.path.samestat(found, self._log_as_opened):
            return
        sentence = f"The write-ahead log {self._log} was removed while her2d was running."
        try:
            saved = cut_log(self._db)
        except sqlite3.Error as error:
            raise DatabaseError(
                f"{sentence} Its content could not be saved: {error}. {_REMEDY}"
            ) from error
        raise DatabaseError(
            f"{sentence} Its content was saved to the database."
            if saved
            else f"{sentence} Its newest content may be lost, because the database was being read."
            f" {_REMEDY}"
        )

    def _cut_log(self) -> None:
        if cut_log(self._db, patience_ms=_CUT_PATIENCE_MS):
            self._log_stays = False
            return
        size = self._log.stat().st_size
        if size > _LARGE_LOG_BYTES and not self._log_stays:
            self._log_stays = True
            log.warning("database_log_not_cut", log_bytes=size)


def _bytes_by(header: bytes) -> int:
    """Return the size of the file by its header; 0 if the header does not say."""
    if header[_COUNTER] != header[_VALID_FOR]:
        return 0
    page_size = int.from_bytes(header[_PAGE_SIZE], "big")
    return int.from_bytes(header[_PAGES], "big") * (65536 if page_size == 1 else page_size)


def damaged(database: Path, cause: str) -> DatabaseError:
    """Return the error for a database that SQLite found damaged."""
    return DatabaseError(f"The database {database} is damaged: {cause}. {_REMEDY}")
