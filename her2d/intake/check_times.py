"""The settling files in the order in which they are to be checked."""

import heapq
from collections.abc import Generator

from her2d.intake.settling import Watch

_AT_ONCE = float("-inf")


class CheckTimes:
    """What is known of each settling file, by the id of its job.

    A call costs the same however many files settle: only those are met whose time has come.
    """

    def __init__(self) -> None:
        self._watches: dict[int, Watch | None] = {}
        self._times: list[tuple[float, int]] = []  # a heap; a file's outdated entries stay in it

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, job_id: int) -> None:
        """Check a file at once, unless it is known."""
        if job_id not in self._watches:
            self._set(job_id, None)

    def discard(self, job_id: int) -> None:
        """Check a file no more."""
        self._watches.pop(job_id, None)

    def watch(self, job_id: int) -> Watch | None:
        """Return what is known of a file; None if it was not looked at yet."""
        return self._watches.get(job_id)

    def put(self, job_id: int, watch: Watch) -> None:
        """Check a file again at the time that the watch says."""
        self._set(job_id, watch)

    def start_again(self, job_id: int) -> None:
        """Forget what is known of a file, and check it at once."""
        if self._watches.get(job_id) is not None:
            self._set(job_id, None)

    def due(self, now: float) -> Generator[int, None, None]:
        """Yield the files to check, in the order of their times and then of their ids.

        Those for which the caller puts no other time, or which it does not reach, are due again.
        """
        taken: list[tuple[float, int]] = []
        try:
            while self._times and self._times[0][0] <= now:
                entry = heapq.heappop(self._times)
                if self._is_valid(entry):
                    taken.append(entry)
                    yield entry[1]
        finally:
            for entry in filter(self._is_valid, taken):
                heapq.heappush(self._times, entry)

    def _set(self, job_id: int, watch: Watch | None) -> None:
        self._watches[job_id] = watch
        heapq.heappush(self._times, (_time_of(watch), job_id))

    def _is_valid(self, entry: tuple[float, int]) -> bool:
        check_at, job_id = entry
        return job_id in self._watches and _time_of(self._watches[job_id]) == check_at


def _time_of(watch: Watch | None) -> float:
    return _AT_ONCE if watch is None else watch.check_at
