"""Files that a node lacks, received from the daemon's machine on the node's own disk.

A file has no name there: it is removed from its folder before anything is written, so that the
kernel frees its blocks when its process ends, however that happens. Its room is taken before the
first byte arrives.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from her2d.cluster.plan import Part
from her2d.errors import Her2dError
from her2d.processing.errors import FileChangedError
from her2d.processing.identity import Scan
from her2d.system.file_identity import FileState

_LEFT_FREE = 500 * 10**6  # bytes of the disk that other programs may need
_LOOK_S = 1.0
_MB = 10**6


class NoRoomError(Her2dError):
    """A node has no room for a file; `str(error)` says what is missing."""


class ReceiveError(Her2dError):
    """A file did not arrive."""


@dataclass(frozen=True, slots=True)
class ReceivedScan(Scan):
    """A scan that was received; it is at no path of this machine."""

    def require_unchanged(self) -> None:
        """Check that the received file was not written to."""
        if self._state_of_open_file() != self.state:
            raise FileChangedError(f"{self.path.name} changed while it was read.")


class Spool:
    """The room that received files may take. Safe to use from several threads.

    Args:
        folder: on a disk of this machine.
        most_bytes: of all files at a time.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def file(self, size: int, on_wait: Callable[[], None]) -> Iterator["ReceivedFile"]:
        """Make an empty file that takes its room at once, and frees it when the block ends.

        Args:
            size: of the file, in bytes.
            on_wait: called each second while other files take the room; what it raises ends it.

        Raises:
            NoRoomError: the file is larger than the spool, or the disk is too full.
        """
        self._take(size, on_wait)
        try:
            with self._unnamed(size) as received:
                yield received
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()

    def _take(self, size: int, on_wait: Callable[[], None]) -> None:
        if size > self._most:
            raise NoRoomError(
                f"it has {size / _MB:,.0f} MB, and [cluster] spool_mb allows"
                f" {self._most / _MB:,.0f}"
            )
        with self._freed:
            while self._taken + size > self._most:
                on_wait()
                self._freed.wait(_LOOK_S)
            self._taken += size

    @contextmanager
    def _unnamed(self, size: int) -> Iterator["ReceivedFile"]:
        try:
            system = os.statvfs(self._folder)
            if system.f_bavail * system.f_frsize < size + _LEFT_FREE:
                raise NoRoomError(f"{self._folder} has no {size / _MB:,.0f} MB free")
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise NoRoomError(f"{self._folder} cannot be used: {error.strerror}") from error
        with file:
            try:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                os.ftruncate(file.fileno(), size)
            except OSError as error:
                raise NoRoomError(f"{self._folder} cannot be used: {error.strerror}") from error
            received = ReceivedFile(file.fileno(), size)
            try:
                yield received
            finally:
                received.end()


class ReceivedFile:
    """A file that arrives in parts, in any order.

    Attributes:
        content_hash: that its sender found; None until the part that has it has arrived.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self.content_hash: str | None = None
        self._parts: dict[int, int] = {}
        self._received = 0
        self._problem: str | None = None
        self._is_ended = False
        self._changed = threading.Condition()

    def write(self, part: Part) -> None:
        """Write a part, unless the file has been closed."""
        with self._changed:
            if self._is_ended:
                return
            try:
                self._write(part.offset, part.data)
            except (OSError, ReceiveError) as error:
                self._problem = str(error)
            self.content_hash = part.content_hash or self.content_hash
            self._received += len(part.data) - self._parts.get(part.offset, 0)
            self._parts[part.offset] = len(part.data)
            self._changed.notify_all()

    def _write(self, offset: int, data: bytes) -> None:
        if offset < 0 or offset + len(data) > self.size:
            raise ReceiveError("A part lies outside the file.")
        written = 0
        while written < len(data):
            written += os.pwrite(self.descriptor, data[written:], offset + written)

    def end(self) -> None:
        """Let no part be written from now on: the descriptor's number may be another file's."""
        with self._changed:
            self._is_ended = True

    @property
    def received(self) -> int:
        """Number of bytes that have arrived."""
        return self._received

    def wait(self, on_wait: Callable[[], None], silent_s: float) -> None:
        """Wait until all of it has arrived.

        Args:
            on_wait: called at each part and each second; what it raises ends the wait.
            silent_s: seconds without a part after which it is given up.

        Raises:
            ReceiveError: it did not arrive.
        """
        silent = 0.0
        with self._changed:
            while not self._is_over():
                on_wait()
                before = self.received
                self._changed.wait(_LOOK_S)
                silent = 0.0 if self.received > before else silent + _LOOK_S
                if silent >= silent_s:
                    raise ReceiveError(f"No part of it has arrived for {silent:.0f} s.")
        if self._problem is not None:
            raise ReceiveError(f"It could not be written: {self._problem}.")

    def _is_over(self) -> bool:
        return self.received >= self.size or self._problem is not None

    def scan(self, path: Path) -> ReceivedScan:
        """Return the file as the scan at `path` of the daemon's machine."""
        state = FileState.from_stat(os.fstat(self.descriptor))
        return ReceivedScan(path, state, self.descriptor, None)
