"""One daemon for each database."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunningError(Exception):
    """Another daemon holds the database; `str(error)` names its process."""


@contextmanager
def held_by_us(database: Path) -> Iterator[None]:
    """Hold `<database>.lock` for as long as the block runs.

    The kernel drops the lock when the process ends, however it ends, so it is never stale.

    Raises:
        AlreadyRunningError: another process holds it.
        OSError: the file cannot be created.
    """
    path = database.with_name(database.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"Another her2d daemon (process {holder}) already works on {database}."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
