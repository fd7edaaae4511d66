"""Share the CPUs between an engine and the threads that prepare its tiles.

More threads than CPUs compute no faster, and a thread that must wait for a CPU holds up the others
of its network, which meet after every layer.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from her2d.system.cpus import usable_cpus


class CpuShare:
    """What is allowed to compute at a time. Safe to use from several threads.

    Args:
        engine_threads: how many of the threads are an engine's; none are if it computes elsewhere.
        cpus: how many there are to share; 0 is all that this process may use.
    """

    def __init__(self, engine_threads: int = 0, *, cpus: int = 0) -> None:
        self._cpus = cpus or usable_cpus()
        # Where an engine takes all, one thread fills the gaps between its layers.
        self._beside_engine = max(1, self._cpus - engine_threads)
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._engine_calls = 0
        self._preparing_threads = 0
        self._of_thread = threading.local()

    def waited_s(self) -> float:
        """Return how long the calling thread has waited for the engine so far, in seconds."""
        return float(getattr(self._of_thread, "waited_s", 0.0))

    @contextmanager
    def engine(self) -> Iterator[None]:
        """Wait until the block may compute with the engine's threads; one such block at a time."""
        asked = time.monotonic()
        with self._changed:
            self._engine_calls += 1
        try:
            with self._turn:
                with self._changed:
                    self._changed.wait_for(lambda: self._preparing_threads <= self._beside_engine)
                self._of_thread.waited_s = self.waited_s() + time.monotonic() - asked
                yield
        finally:
            with self._changed:
                self._engine_calls -= 1
                self._changed.notify_all()

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Wait until the block may compute with one thread.

        It must only compute: an engine may wait for its end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._preparing_threads < self._room())
            self._preparing_threads += 1
        try:
            yield
        finally:
            with self._changed:
                self._preparing_threads -= 1
                self._changed.notify_all()

    def _room(self) -> int:
        return self._beside_engine if self._engine_calls else self._cpus
