"""Whether an unforeseen error is the fault of a slide: only if other slides work meanwhile.

What nobody foresaw may be the process's own failure, or the machine's, and would then cost every
slide its attempts. A slide counts as the cause once it fails again after another one was scored.
A share's I/O error may be the share's, so that only slides of the same share tell.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known about a job that failed for an unforeseen reason.

    Attributes:
        failures: how often it has failed so, this time included.
        is_proven: whether another slide was scored since it last failed so.
        is_storage_proven: whether another slide of the same inbox was.
    """

    failures: int = 1
    is_proven: bool = False
    is_storage_proven: bool = False


class UnforeseenFailures:
    """Remembers unforeseen failures while the process runs. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scored: Counter[Path | None] = Counter()
        # Of each job: its failures, and the slides scored until then, in all and of its inbox.
        self._failed: dict[int, tuple[int, int, int]] = {}

    def scored(self, job_id: int, inbox: Path | None) -> None:
        """Note that a slide got its result.

        Args:
            job_id: its job.
            inbox: the inbox that it was read from; None for the archive.
        """
        with self._lock:
            self._scored[inbox] += 1
            self._failed.pop(job_id, None)

    def failed(self, job_id: int, inbox: Path | None) -> Suspicion:
        """Note an unforeseen failure, and return what is known about the job.

        Args:
            job_id: the job.
            inbox: the inbox that its file is in; None for the archive.
        """
        with self._lock:
            now = self._scored.total(), self._scored[inbox]
            failures, *then = self._failed.pop(job_id, (0, *now))
            if len(self._failed) >= _MOST_KEPT:
                self._failed.pop(next(iter(self._failed)))  # the one that failed longest ago
            self._failed[job_id] = (failures + 1, *now)
            return Suspicion(failures + 1, now[0] > then[0], now[1] > then[1])
