"""Which files a sweep examines, if there are too many to examine all of them each time.

A sweep lists every folder, so that it finds every new name. Examining a file, which takes a call of
the system and a look into the database, costs thirty times as much as listing it, and is necessary
only for a file that was written to or replaced under its old name. So each sweep examines every
name that the one before did not see, and a share of the others, which is all of them in an inbox
of usual size.

This does not depend on the file system: a folder's time of change, which would tell whether a
listing is necessary, says nothing about a file that is written to in place, and on a share it may
be as old as the client's cache.
"""

from collections.abc import Callable

_MOST_KNOWN = 500_000  # names, in some 40 MB of memory; more are examined each time
_BUCKETS = 256


class Turns:
    """Whose turn it is in one kind of search, such as the sweeps of all inboxes.

    The known files are in buckets by the hash of their path, and the buckets take turns.

    Args:
        most: how many known files a search examines, give or take a bucket.
        clock: monotonic seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._first = 0
        self._examined_at = [float("-inf")] * _BUCKETS
        self._files: int | None = None  # that the last search met; None to examine all
        self._all_wanted = False  # since the search under way began

    def begin(self) -> range:
        """Begin a search; return the buckets to examine. After the last one, the first follow."""
        self._all_wanted = False
        share = _BUCKETS * self._most // (self._files or 1)
        return range(self._first, self._first + min(max(share, 1), _BUCKETS))

    @property
    def all_next(self) -> bool:
        """Whether the next search examines every file, however many there are."""
        return self._files is None

    @property
    def examined_at(self) -> float:
        """When the file was examined for which that is longest ago; minus infinity if never."""
        return min(self._examined_at)

    def took(self, buckets: range, files: int) -> None:
        """Note that a search of these buckets has ended, which met that many files."""
        for bucket in buckets:
            self._examined_at[bucket % _BUCKETS] = self._clock()
        self._first = buckets.stop % _BUCKETS
        self._files = None if self._all_wanted else files

    def take_all(self) -> None:
        """Examine every file in the next search, the one under way not counted."""
        self._files, self._all_wanted = None, True


class KnownFiles:
    """The files that sweeps have seen, as hashes of their paths.

    Attributes:
        met: number of files that the search under way, or the last one, has met.
        examined: how many of them were examined.
    """

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._met: set[int] = set()
        self._buckets = range(_BUCKETS)
        self.met = self.examined = 0

    def begin(self, buckets: range) -> None:
        """Begin a search that examines these buckets."""
        self._met = set()
        self._buckets = buckets
        self.met = self.examined = 0

    def is_due(self, path: str) -> bool:
        """Return whether to examine the file: it is not known, or it is its turn."""
        key = hash(path)
        if key not in self._known:
            return True
        if (key - self._buckets.start) % _BUCKETS < len(self._buckets):
            return True
        self._met.add(key)
        self.met += 1
        return False

    def add(self, path: str) -> None:
        """Remember a file that was found and examined."""
        self.met += 1
        self.examined += 1
        if len(self._met) < _MOST_KNOWN:
            self._met.add(hash(path))

    def end(self, *, everywhere: bool) -> None:
        """End the search.

        Args:
            everywhere: whether it covered all inboxes, so that a file that was not met is gone.
        """
        if everywhere:
            self._known = self._met
        elif len(self._known) < _MOST_KNOWN:
            self._known |= self._met
        self._met = set()

    def forget(self) -> None:
        """Forget all files."""
        self._known = set()
