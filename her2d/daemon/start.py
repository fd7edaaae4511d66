"""The daemon's start: what it does, whether it makes progress, and its end if it does not.

A library that cannot start a thread, or storage that does not answer, can block the main thread
without end. systemd would then kill the daemon without a word about the cause. So a thread watches
the start. It extends systemd's timeout while the process works, and otherwise ends the process with
a sentence.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.monitoring.log_queue import flush_log
from her2d.monitoring.sd_notify import Notifier
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_CHECK_S = 5.0
_STALLED_S = 120.0
_LONGEST_STEP_S = 3600.0  # also of a step that computes without end
# What a blocked process may do between two checks: its other threads wake up now and then.
_LEAST_CPU_S = 0.02
_LEAST_READ_BYTES = 64 * 1024
_IO = Path("/proc/self/io")


class StartWatch:
    """Notes the steps of the start, and whether the process makes progress in them."""

    def __init__(
        self,
        notifier: Notifier,
        end: Callable[[str], None],
        work_done: Callable[[], tuple[float, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a watch; `watching_start` runs it.

        Args:
            notifier: extends the service manager's timeout.
            end: ends the process, with a sentence that says why.
            work_done: returns the CPU time and the bytes read of this process so far.
            clock: monotonic seconds.
        """
        self._notifier = notifier
        self._end = end
        self._work_done = work_done
        self._clock = clock
        self._step = "the daemon starts"
        self._step_at = self._progress_at = clock()
        self._done = work_done()

    def step(self, step: str) -> None:
        """Note the next step, in words that continue "... while"."""
        self._step = step
        self._step_at = self._progress_at = self._clock()
        self._notifier.status(f"Starting: {step}.")

    def check(self) -> None:
        """Extend the service manager's timeout if the process worked, or end a stalled start."""
        now, done = self._clock(), self._work_done()
        worked = (
            done[0] - self._done[0] >= _LEAST_CPU_S or done[1] - self._done[1] >= _LEAST_READ_BYTES
        )
        self._done = done
        if worked:
            self._progress_at = now
        silent_s = now - self._progress_at
        if silent_s >= _STALLED_S:
            self._end(f"The start has made no progress for {silent_s:.0f} s while {self._step}.")
        elif (took_s := now - self._step_at) >= _LONGEST_STEP_S:
            self._end(f"The start has not ended for {took_s:.0f} s while {self._step}.")
        else:
            self._notifier.extend_start(_STALLED_S + 2 * _CHECK_S - silent_s)


@contextmanager
def watching_start(notifier: Notifier) -> Iterator[StartWatch]:
    """Watch the start of the daemon in a thread while the block runs."""
    over = threading.Event()
    watch = StartWatch(notifier, lambda sentence: _end(notifier, sentence), work_of_this_process)

    def run() -> None:
        while not over.wait(_CHECK_S):
            watch.check()

    threading.Thread(target=run, name="her2d-start", daemon=True).start()
    try:
        yield watch
    finally:
        over.set()


def work_of_this_process() -> tuple[float, int]:
    """Return CPU seconds and bytes read of this process, without those of the calling thread."""
    read = 0
    with contextlib.suppress(OSError):  # a kernel without task I/O accounting
        (line,) = (at for at in _IO.read_text().splitlines() if at.startswith("rchar:"))
        read = int(line.split()[1])
    return time.process_time() - time.thread_time(), read


def end_at_start() -> None:
    """End the process because a stop was requested before the start was complete."""
    log.info("daemon_stopped_at_start")
    flush_log()
    os._exit(0)


def _end(notifier: Notifier, sentence: str) -> None:
    """End the process, whose main thread is blocked. A start leaves nothing half done."""
    log.critical("start_stalled", reason=sentence)
    notifier.status(sentence)
    flush_log()
    os._exit(1)
