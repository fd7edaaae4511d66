"""A bounded queue whose consumer takes batches: what joins two stages of the pipeline."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_LOOK_UP_S = 0.1

T = TypeVar("T")


class BatchQueue(Generic[T]):
    """First in, first out, for any number of producers and consumers.

    A full queue blocks its producers (backpressure); a consumer gets what is there, after having
    waited a little for a batch to fill.

    Attributes:
        blocked_s: seconds that producers waited for room, added up.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.blocked_s = 0.0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, *, abandoned: Callable[[], bool] = lambda: False) -> bool:
        """Append `item`, waiting for room.

        Returns False, and does not take the item, where the queue was closed or `abandoned` became
        true meanwhile.
        """
        with self._changed:
            if len(self._items) >= self.capacity:
                self._wait_for_room(abandoned)
            if self._closed or abandoned():
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def _wait_for_room(self, abandoned: Callable[[], bool]) -> None:
        started = time.monotonic()
        while len(self._items) >= self.capacity and not self._closed and not abandoned():
            self._changed.wait(_LOOK_UP_S)
        self.blocked_s += time.monotonic() - started

    def take(self, most: int, *, fill_s: float, enough: int | None = None) -> list[T]:
        """Wait for an item, then up to `fill_s` seconds for `enough` of them.

        Args:
            most: how many are taken if they are there.
            fill_s: how long it waits after the first.
            enough: how many it waits for; None is `most`.

        Returns:
            Up to `most` items; none only once the queue is closed and empty.
        """
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            deadline = time.monotonic() + fill_s
            full = min(most if enough is None else enough, self.capacity)
            while len(self._items) < full and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Refuse further items; consumers drain what is left, then get empty batches."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
