"""Whose fault it is that an engine failed: the slide's, or the machine's."""

import threading

from her2d.inference.engine import DeviceLostError, EngineError

_MOST_FAILURES = 5


class EngineDownError(EngineError):
    """The engine fails whatever it is given: no slide is to blame."""


class EngineHealth:
    """Failures since the engine last scored a slide. Safe to use from several threads.

    Memory that another process took fails one slide like the next. Were each counted against its
    slide, a night's scans would be quarantined by the morning.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worked = False
        self._failures = 0

    def worked(self) -> None:
        """A slide was scored."""
        with self._lock:
            self._worked, self._failures = True, 0

    def judged(self, error: EngineError | MemoryError) -> Exception:
        """What to raise for a failure: `error` where the slide may be the cause, as of the first
        one after a slide was scored; EngineDownError where it is not; DeviceLostError where so
        many failed in a row that a new process has better chances."""
        with self._lock:
            self._failures += 1
            failures, worked = self._failures, self._worked
        if failures >= _MOST_FAILURES:
            return DeviceLostError(
                f"The engine failed {failures} times with no slide scored between: {error}"
            )
        return error if worked and failures == 1 else EngineDownError(str(error))
