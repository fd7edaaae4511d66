"""The lock that allows one daemon for each database."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.db.connection import DatabaseError
from her2d.errors import Her2dError
from her2d.system.ownership import access_hint, copy_owner


class AlreadyRunningError(Her2dError):
    """Another daemon uses the database; `str(error)` names its process."""


@contextmanager
def hold_daemon_lock(database: Path) -> Iterator[None]:
    """Hold the lock of the one daemon, on the file `<database>.lock`, while the block runs.

    The kernel releases the lock when the process ends, so that a killed daemon leaves none.

    Raises:
        AlreadyRunningError: another process holds the lock.
        DatabaseError: the lock file cannot be created.
    """
    path = _lock_of(database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        hint = f" {access_hint(path)}" if isinstance(error, PermissionError) else ""
        raise DatabaseError(f"{path} cannot be written: {error.strerror}.{hint}") from error
    try:
        copy_owner(path, database if database.exists() else path.parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _already_running(descriptor, database) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def require_no_daemon(database: Path) -> None:
    """Check that no daemon uses `database`, without creating a lock file.

    Raises:
        AlreadyRunningError: a daemon uses it.
        OSError: the lock file cannot be read.
    """
    try:
        descriptor = os.open(_lock_of(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _already_running(descriptor, database) from error
    finally:
        os.close(descriptor)


def _lock_of(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def _already_running(descriptor: int, database: Path) -> AlreadyRunningError:
    holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
    return AlreadyRunningError(
        f"Another her2d daemon (process {holder}) already works on {database}."
    )
