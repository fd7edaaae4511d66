"""Whether a failure is the fault of a slide: only if other slides work meanwhile.

What nobody foresaw may be the process's own failure, or the machine's, and would then cost every
slide its attempts. A slide counts as the cause once it fails again after another one was scored.
An I/O error may come from the share. Only other slides of the same share show whether it does.
A node of a cluster on which a slide has failed before shows nothing more, unless it has scored
other slides since.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from her2d.processing.errors import ActorCrashedError

_MOST_KEPT = 10_000
_NEVER = float("-inf")
_NOTHING = (_NEVER, 0)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known about a job that failed, and whose file may be the cause.

    Attributes:
        failures: how often it has failed so, this time included.
        is_proven: whether another slide was begun and scored since it last failed so, by the same
            node if it has failed there before.
        is_storage_proven: whether another slide of the same file system was begun and read since
            it last failed so.
    """

    failures: int = 1
    is_proven: bool = False
    is_storage_proven: bool = False


@dataclass(frozen=True, slots=True)
class OnNode:
    """Where a slide failed.

    Attributes:
        name: the node's.
        scored: number of slides that it had scored until then.
    """

    name: str
    scored: int


def on_node(error: Exception) -> OnNode | None:
    """Return the node that may be the cause of an error; None if none may."""
    if isinstance(error, ActorCrashedError) and error.node is not None:
        return OnNode(error.node, error.scored)
    return None


class FailureHistory:
    """Remembers failures while the process runs. Safe to use from several threads.

    A slide that was begun before a failure shows nothing: it may have been read before its share
    went away.

    Args:
        clock: seconds since any moment, which never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._scored = _NEVER  # when the newest of the scored slides was begun
        # The same of those read, by file system, with the job.
        self._read: dict[int, tuple[float, int]] = {}
        # Of each job, by kind of failure: how often, when last, and what its nodes had scored.
        self._failed: dict[int, dict[str, tuple[int, float, dict[str, int]]]] = {}

    def scored(self, job_id: int, begun: float) -> None:
        """Note that a slide got its result.

        Args:
            job_id: its job.
            begun: the clock's time when the attempt began.
        """
        with self._lock:
            self._scored = max(self._scored, begun)
            self._failed.pop(job_id, None)

    def read(self, job_id: int, device: int | None, begun: float) -> None:
        """Note that a slide was read to its end, which says nothing yet about its scoring.

        Args:
            job_id: its job.
            device: the file system that it is on (`st_dev` of stat(2)); None if that is not known.
            begun: as for `scored`.
        """
        with self._lock:
            if device is not None:
                self._read[device] = max(self._read.get(device, _NOTHING), (begun, job_id))

    def failed(
        self, job_id: int, kind: str, device: int | None, node: OnNode | None = None
    ) -> Suspicion:
        """Note a failure, and return what is known about the job.

        Args:
            job_id: the job.
            kind: which failures are alike.
            device: the file system that its file is on; None if that is not known.
            node: the node of a cluster that may be the cause, if one may.
        """
        with self._lock:
            kinds = self._failed.pop(job_id, {})
            if len(self._failed) >= _MOST_KEPT:
                self._failed.pop(next(iter(self._failed)))  # the one that failed longest ago
            now = self._clock()
            failures, last, nodes = kinds.get(kind, (0, now, {}))
            is_proven = self._scored > last
            if node is not None:
                is_proven = is_proven and node.scored > nodes.get(node.name, -1)
                nodes = nodes | {node.name: node.scored}
            self._failed[job_id] = kinds | {kind: (failures + 1, now, nodes)}
            read, reader = _NOTHING if device is None else self._read.get(device, _NOTHING)
            return Suspicion(failures + 1, is_proven, read > last and reader != job_id)
