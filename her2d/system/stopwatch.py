"""Add up how long threads are in a block of code."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """The time of all threads together. Safe to use from several threads.

    Attributes:
        seconds: what has been measured so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block, also one that raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            passed = time.monotonic() - started
            with self._lock:
                self.seconds += passed
