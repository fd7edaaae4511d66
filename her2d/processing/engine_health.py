"""Decide whether an engine failed because of the slide or because of the machine."""

import threading

from her2d.inference.engine import DeviceLostError, EngineError

_MOST_FAILURES = 5


class EngineDownError(EngineError):
    """The engine fails for every slide, so the slides are not the cause."""


class EngineHealth:
    """Counts failures since the engine last scored a slide. Safe to use from several threads.

    When another process has taken the memory, every slide fails. If each failure counted against
    its slide, a night's scans would be quarantined by the morning.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worked = False
        self._failures = 0

    def worked(self) -> None:
        """Note that a slide was scored."""
        with self._lock:
            self._worked, self._failures = True, 0

    def judged(self, error: EngineError | MemoryError) -> Exception:
        """Return the error to raise for a failure.

        That is `error` where the slide may be the cause, for the first failure after a slide was
        scored; EngineDownError where it is not; DeviceLostError after so many failures in a row
        that a new process is more likely to work.
        """
        with self._lock:
            self._failures += 1
            failures, worked = self._failures, self._worked
        if failures >= _MOST_FAILURES:
            return DeviceLostError(
                f"The engine failed {failures} times without scoring a slide in between: {error}"
            )
        return error if worked and failures == 1 else EngineDownError(str(error))
