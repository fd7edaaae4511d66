"""A value that takes an unknown time to read: the newest one, and how old it is."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from her2d.system.loggers import get_logger

log = get_logger(__name__)

T = TypeVar("T")


class Latest(Generic[T]):
    """Reads a value in its own thread, so that no caller waits for a lock or for storage.

    Args:
        read: returns the value.
        name: of the thread.
    """

    def __init__(self, read: Callable[[], T], name: str) -> None:
        self._read = read
        self._value: T | None = None
        self._read_at: float | None = None
        self._answers = 0
        self._wanted = False
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def within(self, seconds: float) -> tuple[T | None, float]:
        """Return a value that is read now, or the last one if that takes longer than `seconds`.

        Returns:
            The value, None if none was read yet; and its age in seconds, 0 for a new one.
        """
        with self._changed:
            before = self._answers
            self._wanted = True
            self._changed.notify_all()
            is_new = self._changed.wait_for(lambda: self._answers > before, seconds)
            age_s = 0.0
            if not is_new and self._read_at is not None:
                age_s = time.monotonic() - self._read_at
            return self._value, age_s

    def close(self) -> None:
        """Read no more. A thread that hangs is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                self._wanted = False
            try:
                value = self._read()
            except Exception:
                log.exception("reading_failed")
                continue
            with self._changed:
                self._value, self._read_at = value, time.monotonic()
                self._answers += 1
                self._changed.notify_all()
