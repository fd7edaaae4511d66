"""The locks that allow one daemon for each database.

One is on the file `<database>.lock`, which names the process that holds it, and which can be held
before there is a database. The other is on the database file, so that neither another name of the
database (a link) nor a deleted lock file lets a second daemon start. SQLite does not use this kind
of lock (flock(2)).
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from her2d.db.connection import DatabaseError
from her2d.errors import Her2dError
from her2d.system.files import make_folder, private_opener
from her2d.system.linux import flock_holder
from her2d.system.ownership import access_hint, copy_owner


class AlreadyRunningError(Her2dError):
    """Another daemon uses the database; `str(error)` names its process.

    Attributes:
        process: its number; None if it is not known.
    """

    def __init__(self, process: int | None, database: Path) -> None:
        named = f" (process {process})" if process is not None else ""
        super().__init__(f"Another her2d daemon{named} already works on {database}.")
        self.process = process


class LockedDatabase:
    """A database file that this process has locked.

    Its descriptor stays open as long as the lock is held. No other code of a process may open and
    close the file, because that would end SQLite's own locks on it (fcntl(2), "Advisory record
    locking"). Code that examines the file uses this descriptor.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def status(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def read(self, length: int, offset: int = 0) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def hold_daemon_lock(database: Path) -> Iterator[None]:
    """Hold the lock on `<database>.lock` while the block runs; the database need not exist.

    The kernel releases the lock when the process ends, so that a killed daemon leaves none.

    Raises:
        AlreadyRunningError: another process holds the lock.
        DatabaseError: the lock file cannot be created, or is a link.
    """
    path = _lock_of(database)
    try:
        make_folder(path.parent)
        descriptor = private_opener(str(path), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        hint = f" {access_hint(path)}" if isinstance(error, PermissionError) else ""
        raise DatabaseError(f"{path} cannot be written: {error.strerror}.{hint}") from error
    try:
        _require_plain_file(descriptor, path)
        copy_owner(descriptor, database if database.exists() else path.parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = flock_holder(descriptor) or _noted(descriptor)
            raise AlreadyRunningError(holder, database) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_database(database: Path) -> Iterator[LockedDatabase]:
    """Hold the lock on the database file while the block runs. It must exist.

    Every connection of this process must be closed before the block ends.

    Raises:
        AlreadyRunningError: another process holds the lock, through this or another name.
        DatabaseError: the file cannot be opened for writing.
    """
    try:
        descriptor = os.open(database, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = f" {access_hint(database)}" if isinstance(error, PermissionError) else ""
        raise DatabaseError(f"{database} cannot be opened: {error.strerror}.{hint}") from error
    with closing(LockedDatabase(database, descriptor)) as locked:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(flock_holder(descriptor), database) from error
        yield locked


def require_no_daemon(database: Path) -> None:
    """Check that no daemon uses `database`, without creating a lock file.

    Raises:
        AlreadyRunningError: a daemon uses it.
        OSError: the lock file or the database cannot be read.
    """
    lock = _lock_of(database)
    for path in (lock, database):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = flock_holder(descriptor)
                if path == lock:
                    holder = holder or _noted(descriptor)
                raise AlreadyRunningError(holder, database) from error
            finally:
                os.close(descriptor)


def running_daemon(database: Path) -> int | None:
    """Return the process of the daemon that uses `database`; None without one. Raises OSError."""
    try:
        require_no_daemon(database)
    except AlreadyRunningError as error:
        return error.process
    return None


def _lock_of(database: Path) -> Path:
    """Return the lock file, beside the database itself and not beside a link to it."""
    place = database.resolve()
    return place.with_name(place.name + ".lock")


def _require_plain_file(descriptor: int, path: Path) -> None:
    """Raise DatabaseError if the file has a second name: it may be a file of somebody else."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise DatabaseError(f"{path} is not a lock file of her2d. Remove it.")


def _noted(descriptor: int) -> int | None:
    """Return the process that a lock file names."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
