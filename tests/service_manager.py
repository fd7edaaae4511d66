"""Receive the messages that a daemon sends to systemd through NOTIFY_SOCKET."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon_site import PATIENCE_S


@dataclass(frozen=True)
class ServiceManager:
    """Receives the messages of a daemon whose NOTIFY_SOCKET is `address`."""

    address: str
    listening: socket.socket

    def wait_for(self, words: str) -> str:
        """Wait for a message that contains `words`, and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            if words in (message := self._next(left)):
                return message
        raise AssertionError(f"no message contained {words!r} within {PATIENCE_S} s")

    def receives_nothing_with(self, words: str, within_s: float) -> bool:
        """Return whether no message within that time contains `words`."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if words in self._next(left):
                return False
        return True

    def _next(self, patience_s: float) -> str:
        """Return the next message, or an empty one if there is none within that time."""
        self.listening.settimeout(patience_s)
        try:
            return self.listening.recv(4096).decode()
        except TimeoutError:
            return ""


@contextmanager
def service_manager(folder: Path) -> Iterator[ServiceManager]:
    """Listen on a socket in `folder`."""
    address = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        yield ServiceManager(address, listening)
