"""Notify systemd of the daemon's state: sd_notify(3).

The protocol is a datagram to the socket in NOTIFY_SOCKET, "simple and guaranteed to be stable", and
the manual page contains an implementation of it. The available libraries are either unmaintained
(sdnotify, 2017) or need libsystemd, which a container may not have.
"""

import os
import socket
import time
from collections.abc import Mapping

from her2d.system.loggers import get_logger

log = get_logger(__name__)

_TIMEOUT_S = 5.0
_READY_TIMEOUT_S = 60.0  # READY is sent only once, and without it systemd aborts the start


class Notifier:
    """Sends messages to the service manager; does nothing if NOTIFY_SOCKET is not set."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def ready(self, status: str) -> None:
        """Report that the start or a reload is complete."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}", _READY_TIMEOUT_S)

    def extend_start(self, seconds: float) -> None:
        """Allow the start that many seconds more, beyond the unit's TimeoutStartSec."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Reset systemd's watchdog timer."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Report that a reload has begun."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Report that the daemon is stopping."""
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def _send(self, state: str, timeout_s: float | None = None) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # The kernel queues ten messages for a reader that does not read; the next blocks.
                channel.settimeout(timeout_s or _TIMEOUT_S)
                channel.connect(self._address)
                channel.sendall(state.encode())
        except OSError as error:
            # The daemon keeps working if the service manager does not listen or does not read.
            log.warning("service_manager_unreachable", reason=str(error))


def _one_line(status: str) -> str:
    """Replace line breaks, since each would start another field, such as WATCHDOG=1."""
    return " ".join(status.split())
