"""How long slides wait for their tiles, and how long threads inspect these."""

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from her2d.system.stopwatch import Stopwatch

T = TypeVar("T")


class DecodeTally:
    """Adds up over all slides; `timed` may run on any number of threads.

    Attributes:
        tiles: tiles that were read, readable or not.
        wait_s: seconds that slides waited for them, summed over the slides in flight.
        inspecting: time of the threads that inspect them.
    """

    def __init__(self) -> None:
        self.tiles = 0
        self.wait_s = 0.0
        self.inspecting = Stopwatch()
        self._lock = threading.Lock()

    def timed(self, tiles: Iterator[T]) -> Iterator[T]:
        """The same tiles; what is done with them between two is not counted."""
        while True:
            started = time.monotonic()
            try:
                tile = next(tiles)
            except StopIteration:
                return
            waited = time.monotonic() - started
            with self._lock:
                self.tiles += 1
                self.wait_s += waited
            yield tile
