"""Telling systemd how it goes: sd_notify(3).

Its protocol is a datagram to the socket in NOTIFY_SOCKET, "simple and guaranteed to be stable"; the
manual page itself carries an implementation of these few lines. The libraries for it are either
unmaintained (sdnotify, 2017) or bind libsystemd, which a container need not have.
"""

import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

_PATIENCE_S = 5.0
_READY_PATIENCE_S = 60.0  # said once; without it systemd gives the start up


class Notifier:
    """Speaks to the service manager, if one listens; otherwise says nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is over."""
        self._tell(f"READY=1\nSTATUS={_one_line(status)}", _READY_PATIENCE_S)

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Work gets on: restart the watchdog's clock."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._tell(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def _tell(self, state: str, patience_s: float | None = None) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # The kernel keeps ten messages for one that does not read; the next would wait.
                channel.settimeout(patience_s or _PATIENCE_S)
                channel.connect(self._address)
                channel.sendall(state.encode())
        except OSError as error:
            # A manager that does not listen, or reads nothing, is no reason to stop working.
            log.warning("service_manager_unreachable", reason=str(error))


def _one_line(status: str) -> str:
    """A line break would begin another field, such as WATCHDOG=1."""
    return " ".join(status.split())
