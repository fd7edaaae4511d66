"""The end of NOTIFY_SOCKET that systemd holds, for several rooms."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon_site import PATIENCE_S


@dataclass(frozen=True)
class ServiceManager:
    """Hears a daemon whose environment has `address` as NOTIFY_SOCKET."""

    address: str
    listening: socket.socket

    def hear(self, words: str) -> str:
        """The next message that has `words` in it."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            if words in (message := self._next(left)):
                return message
        raise AssertionError(f"nobody said {words!r} within {PATIENCE_S} s")

    def hears_nothing_of(self, words: str, within_s: float) -> bool:
        """Whether no message for that long has `words` in it."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if words in self._next(left):
                return False
        return True

    def _next(self, patience_s: float) -> str:
        """The next message, or an empty one where there is none for that long."""
        self.listening.settimeout(patience_s)
        try:
            return self.listening.recv(4096).decode()
        except TimeoutError:
            return ""


@contextmanager
def service_manager(folder: Path) -> Iterator[ServiceManager]:
    """A manager that listens in `folder`."""
    address = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        yield ServiceManager(address, listening)
