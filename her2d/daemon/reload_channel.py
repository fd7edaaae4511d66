"""Tell the command that requests a reload what became of it.

SIGHUP has no answer, and `systemctl reload` must fail if the daemon refuses its new settings. The
command listens on a socket that is named after the daemon's process, and sends the signal. The
daemon connects to it when it begins to reload, and sends the outcome when it has ended. The socket
is an abstract one (unix(7)), so that it needs no folder, and nothing is left behind.
"""

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from her2d.errors import Her2dError

_ANSWER_S = 5.0
_BYTES = 65536
_CREDENTIALS = struct.Struct("3i")  # process, user and group (socket(7), SO_PEERCRED)


class ReloadError(Her2dError):
    """The daemon did not reload its settings; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload.

    Attributes:
        refused: why the new settings are refused; None if they apply.
        waiting: keys that apply only at the next start.
    """

    refused: str | None = None
    waiting: tuple[str, ...] = ()


def request_reload(pid: int, patience_s: float) -> Outcome:
    """Have a daemon read its settings again, and return what became of it.

    Raises:
        ReloadError: there is no such process, it may not be signalled, or it did not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        try:
            listening.bind(_address(pid))
        except OSError as error:
            raise ReloadError(f"Another command waits for the reload of process {pid}.") from error
        listening.listen()
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError as error:
            raise ReloadError(
                f"The daemon's process {pid} cannot be signalled: {error.strerror}."
            ) from error
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            listening.settimeout(left)
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                break
            with connection:
                connection.settimeout(max(0.0, deadline - time.monotonic()) + _ANSWER_S)
                if _peer(connection)[0] == pid and (outcome := _received(connection)):
                    return outcome
    raise ReloadError(
        f"The daemon's process {pid} has not answered for {patience_s:g} s. Its log says what it"
        " does; it reloads its settings when it can."
    )


@contextmanager
def answering() -> Iterator[Callable[[Outcome], None]]:
    """Yield what sends the outcome of a reload to the command that requested it, if one did.

    The connection is made before the settings are read, because a command that asks later must not
    get the outcome of an earlier reload.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(_address(os.getpid()))
            is_requested = _peer(connection)[1] in (os.geteuid(), 0)
        except OSError:  # a signal that no command waits for, such as `kill -HUP`
            is_requested = False

        def answer(outcome: Outcome) -> None:
            if is_requested:
                try:
                    connection.sendall(json.dumps(asdict(outcome)).encode())
                except OSError:
                    return  # The command did not wait. The log tells the outcome.

        yield answer


def _address(pid: int) -> str:
    return f"\0her2d-reload-{pid}"


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    return process, user


def _received(connection: socket.socket) -> Outcome | None:
    """Return the answer, None if the daemon ended before it gave one."""
    try:
        data = connection.recv(_BYTES)
    except OSError:
        return None
    if not data:
        return None
    answer = json.loads(data)
    return Outcome(answer["refused"], tuple(answer["waiting"]))
