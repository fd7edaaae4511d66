"""Handle signals in a thread, also while the main thread is blocked in a library.

Python runs the handlers of signals in the main thread, between two instructions of Python. A main
thread that waits for a locked database or in a back end's library would run none. The interpreter
also writes each signal's number to a file descriptor at once, which a thread reads here.
"""

import signal
import socket
import threading
from collections.abc import Callable, Mapping
from types import FrameType


def handle_in_thread(handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """Call a handler for each of these signals, in a thread, until the process ends.

    Only the main thread may call this.
    """
    receiving, sending = socket.socketpair()
    sending.setblocking(False)
    signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    for number in handlers:
        signal.signal(number, _noted)

    def run() -> None:
        with receiving, sending:
            while numbers := receiving.recv(64):
                for number in numbers:
                    if (handler := handlers.get(signal.Signals(number))) is not None:
                        handler()

    threading.Thread(target=run, name="her2d-signals", daemon=True).start()


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a signal without a handler in Python would take its default action."""
