"""Stop gracefully: finish the slides in flight and return the other jobs to the queue."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from her2d.monitoring.log_queue import flush_log
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_AFTER_CANCEL_S = 15.0
_ARCHIVE_STOPS_S = 5.0


@dataclass(frozen=True, slots=True)
class StopSignals:
    """Events by which the threads of the daemon are paused and stopped.

    Attributes:
        paused: claim no job for now, because the disk is nearly full.
        stop_requested: claim no further job, and end after the slides in flight.
        cancel: cancel the slides in flight at once.
        device_lost: set together with `stop_requested` if only a new process can continue.
        database_damaged: a worker found the database damaged, and the daemon must end.
    """

    paused: threading.Event = field(default_factory=threading.Event)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    cancel: threading.Event = field(default_factory=threading.Event)
    device_lost: threading.Event = field(default_factory=threading.Event)
    database_damaged: threading.Event = field(default_factory=threading.Event)

    def request_stop(self) -> None:
        """Request a graceful stop; the second request cancels the slides in flight."""
        if self.stop_requested.is_set():
            self.cancel.set()
        self.stop_requested.set()


def drain(
    workers: Sequence[threading.Thread],
    archive: threading.Thread,
    signals: StopSignals,
    drain_s: float,
) -> None:
    """Wait for the slides in flight, then cancel those that are left.

    A worker that does not end even then hangs in the kernel, on storage that does not respond. The
    process exits without it, and the next start queues its job again, as after a power cut. An
    archive thread that does not end is not waited for; the next start finishes its move.

    Args:
        workers: their threads.
        archive: the thread that moves finished originals.
        signals: set by the caller to stop; `cancel` is set here once `drain_s` is over.
        drain_s: seconds that slides in flight may take.
    """
    _join(workers, drain_s, signals.cancel)
    signals.cancel.set()
    _join(workers, _AFTER_CANCEL_S, signals.cancel)
    hanging = [thread.name for thread in workers if thread.is_alive()]
    if hanging:
        log.error("stop_forced", workers=hanging)
        flush_log()
        os._exit(1)
    _join([archive], _ARCHIVE_STOPS_S, signals.cancel)
    if archive.is_alive():
        log.warning("archive_thread_not_stopped")


def _join(threads: Sequence[threading.Thread], seconds: float, cancel: threading.Event) -> None:
    end = time.monotonic() + seconds
    for thread in threads:
        while thread.is_alive() and time.monotonic() < end:
            # In short steps, so that a second signal cancels at once.
            thread.join(0.2)
            if cancel.is_set():
                end = min(end, time.monotonic() + _AFTER_CANCEL_S)
