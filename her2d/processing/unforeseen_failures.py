"""Whether an unforeseen error is the fault of a slide: only if other slides work meanwhile.

What nobody foresaw may be the process's own failure, or the machine's, and would then cost every
slide its attempts. A slide counts as the cause once it fails again after another one was scored.
"""

import threading
from dataclasses import dataclass

_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known about a job that failed for an unforeseen reason.

    Attributes:
        failures: how often it has failed so, this time included.
        is_proven: whether another slide was scored since it last failed so.
    """

    failures: int = 1
    is_proven: bool = False


class UnforeseenFailures:
    """Remembers unforeseen failures while the process runs. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scored = 0
        self._failed: dict[int, tuple[int, int]] = {}  # job -> failures, slides scored until then

    def scored(self, job_id: int) -> None:
        """Note that a slide got its result."""
        with self._lock:
            self._scored += 1
            self._failed.pop(job_id, None)

    def failed(self, job_id: int) -> Suspicion:
        """Note an unforeseen failure, and return what is known about the job."""
        with self._lock:
            failures, scored = self._failed.pop(job_id, (0, self._scored))
            if len(self._failed) >= _MOST_KEPT:
                self._failed.pop(next(iter(self._failed)))  # the one that failed longest ago
            self._failed[job_id] = (failures + 1, self._scored)
            return Suspicion(failures + 1, is_proven=self._scored > scored)
