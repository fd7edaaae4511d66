"""The schedule of searches in the inboxes.

File-system events only make discovery faster. Every file is found by a full sweep, every `sweep_s`
seconds. A full sweep also determines which folders lie on file systems without events, and those
are searched every `poll_s` seconds.

Every search lists all its folders, and the first one examines every file. Of the files that are
known from an earlier search, later ones examine as many as an inbox usually holds; where there are
more, they take turns. If even that takes more than a hundredth of a processor, or more than half of
the time because a share is slow, the inboxes are searched less often.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.intake.discovery import MOST_OTHERS, Found, ScanRules, walk
from her2d.intake.known_files import KnownFiles, Turns
from her2d.settings import IntakeSettings
from her2d.system.filesystems import needs_polling
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_MOST_REQUESTED = 1000
_MANY = 2  # times as many examined files as usual are rare
_EXAMINED = 5000  # known files, by one search: as many as an inbox usually holds
_STEP_S = 0.05
_WORK_S, _LONG_S = 0.05, 1.0  # searches that take less may follow each other at once
# Seconds for each second of work: a processor's hundredth, and a tenth for searches that examine
# everything, because they are rare and new scans would wait for the pause.
_PAUSE_PER_WORK = 110
_PAUSE_PER_RARE_WORK = 9


class Sweeps:
    """Searches the folders that are due. Keeps folders in memory, but not files.

    Args:
        settings: the inboxes, and how often they are searched.
        clock: monotonic seconds.

    Attributes:
        rules: what counts as a scan.
        left_out: inboxes that are not searched; set by `leave_out`.
        paused: inboxes that are searched later; set by the caller.
    """

    def __init__(self, settings: IntakeSettings, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_full = float("-inf")
        self._next_poll = float("inf")
        self._poll_only({})
        self._eventless: set[Path] = set()
        self._unreadable: set[Path] = set()
        self._requested: deque[tuple[Path, Path]] = deque()
        self.left_out: frozenset[Path] = frozenset()
        self.paused: frozenset[Path] = frozenset()
        self._walked: Path | None = None
        self._under_way: Iterator[list[Found]] | None = None
        self._entered = 0
        self._others: list[Found] = []
        self._known = KnownFiles()
        self._by_sweeps = Turns(_EXAMINED, clock)
        self._by_polls = Turns(_EXAMINED, clock)
        self._turns: Turns | None = None  # of the search under way
        self._buckets = range(0)
        self._is_rare = False
        self._swept_at: float | None = None
        self._work_s = self._took_s = 0.0
        self._earliest = float("-inf")  # when the inboxes may be searched again
        self._slow_was_told = False
        self._watched_folders: int | None = None
        self.apply(settings)

    @property
    def polled(self) -> frozenset[Path]:
        """The topmost folders of the trees that are searched every `poll_s` seconds."""
        return frozenset(self._polled)

    @property
    def unreadable(self) -> frozenset[Path]:
        """The folders that could not be read at the last attempt."""
        return frozenset(self._unreadable)

    @property
    def swept_s(self) -> float | None:
        """The seconds since a search of all inboxes last ended; None before the first end."""
        return None if self._swept_at is None else self._clock() - self._swept_at

    @property
    def examined_s(self) -> float | None:
        """The seconds since the known file was examined for which that is longest ago."""
        return None if self._swept_at is None else self._clock() - self._by_sweeps.examined_at

    def apply(self, settings: IntakeSettings) -> None:
        """Continue with other settings; the next sweep is a full one."""
        self._settings = settings
        self.rules = ScanRules.of(settings)
        self._poll_only({})
        self._eventless = set()
        self._known.forget()
        self._earliest = float("-inf")
        self.request_full_sweep()

    def leave_out(self, inboxes: frozenset[Path]) -> None:
        """Do not search these inboxes; search those that were left out before as soon as possible.

        Args:
            inboxes: all inboxes to leave out, replacing those of the previous call.
        """
        if self._walked in inboxes - self.left_out:
            self._under_way = self._walked = None
            self.request_full_sweep()
        for inbox in self.left_out - inboxes:
            self.request(inbox, inbox)
        self.left_out = inboxes

    def request_full_sweep(self) -> None:
        """Request a full sweep next, because events were lost or settings changed.

        It examines every file, because any of them may have changed meanwhile.
        """
        self._next_full = self._earliest
        self._by_sweeps.take_all()

    def request(self, folder: Path, inbox: Path) -> None:
        """Request a search of a folder of an inbox, or a full sweep if too many requests wait."""
        if len(self._requested) >= _MOST_REQUESTED:
            self._requested.clear()
            self.request_full_sweep()
        elif (folder, inbox) not in self._requested:
            self._requested.append((folder, inbox))

    def poll(self, inbox: Path) -> None:
        """Search this inbox every `poll_s` seconds, because it has no events."""
        self._eventless.add(inbox)
        self._begin_polling(str(inbox), inbox)

    def watched_folders(self) -> int | None:
        """Return how many folders the last full sweep left to events.

        Returns None if no full sweep has ended since the previous call.
        """
        watched_folders, self._watched_folders = self._watched_folders, None
        return watched_folders

    def take(self, most: int) -> list[Found] | None:
        """Return files of the folders that are due, or None if nothing is due.

        The list has hardly more than `most` files, and is empty if none was found for a while.
        """
        while True:
            if self._under_way is None:
                self._under_way = self._due()
            if self._under_way is None or self._walked in self.paused:
                return None
            with self.working():
                files = self._step(self._under_way, most)
            if files is not None:
                return files
            self._end()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the block as work on the search under way, which is paused for after its end."""
        cpu_s, at = time.thread_time(), time.monotonic()
        try:
            yield
        finally:
            self._work_s += time.thread_time() - cpu_s
            self._took_s += time.monotonic() - at

    def take_others(self) -> list[Found]:
        """Return the files found since the previous call that are not scans, as far as kept."""
        others, self._others = self._others, []
        return others

    @staticmethod
    def _step(search: Iterator[list[Found]], most: int) -> list[Found] | None:
        files = []
        until = time.monotonic() + _STEP_S
        for some in search:
            files += some
            if len(files) >= most or time.monotonic() >= until:
                return files
        return files or None

    def _end(self) -> None:
        self._under_way = self._walked = None
        if self._turns is not None:
            self._turns.took(self._buckets, self._known.met)
            self._known.end(everywhere=self._turns is self._by_sweeps)
        if self._turns is self._by_sweeps:
            self._swept_at = self._clock()
            if self._is_rare:  # so that the next poll need not examine everything again
                self._by_polls.took(self._buckets, self._known.met)
        if self._turns is not None and self._known.examined > _MANY * _EXAMINED:
            self._is_rare = True  # as after an inbox was away, whose files are new to the sweep
        self._rest()

    def _rest(self) -> None:
        """Bound the share of a processor that searches take, by the work of the one that ended."""
        work_s, took_s = self._work_s, self._took_s
        self._work_s = self._took_s = 0.0
        if work_s < _WORK_S and took_s < _LONG_S:
            return
        pause_s = max((_PAUSE_PER_RARE_WORK if self._is_rare else _PAUSE_PER_WORK) * work_s, took_s)
        self._earliest = max(self._earliest, self._clock() + pause_s)
        self._next_full = max(self._next_full, self._earliest)
        self._next_poll = max(self._next_poll, self._earliest)
        if pause_s > self._settings.sweep_s and not self._is_rare and not self._slow_was_told:
            self._slow_was_told = True
            log.warning("inbox_sweeps_slowed", folders=self._entered, every_s=round(pause_s))

    def _due(self) -> Iterator[list[Found]] | None:
        now = self._clock()
        if now >= self._next_full:
            self._next_full = now + self._settings.sweep_s
            self._next_poll = now + self._settings.poll_s
            self._begin(self._by_sweeps)
            return self._everything()
        if self._polled and now >= self._next_poll:
            self._next_poll = now + self._settings.poll_s
            self._begin(self._by_polls)
            return self._trees(list(self._polled.items()))
        for request in self._requested:
            if request[1] not in self.paused | self.left_out:
                self._requested.remove(request)
                self._begin(None)
                return self._trees([request])
        return None

    def _begin(self, turns: Turns | None) -> None:
        """Begin a search of files that take turns; None for one that examines all it finds."""
        self._turns = turns
        self._is_rare = turns is None or turns.all_next
        if turns is not None:
            self._buckets = turns.begin()
            self._known.begin(self._buckets)

    def _everything(self) -> Iterator[list[Found]]:
        self._entered = 0
        for inbox in self._settings.inboxes:
            yield from self._tree(inbox, inbox)
        if not self.left_out:
            self._watched_folders = self._entered

    def _trees(self, trees: list[tuple[Path, Path]]) -> Iterator[list[Found]]:
        for folder, inbox in trees:
            yield from self._tree(folder, inbox)

    def _tree(self, folder: Path, inbox: Path) -> Iterator[list[Found]]:
        if inbox in self.left_out:
            return
        if inbox in self.paused:
            self.request(folder, inbox)
            return
        self._walked = inbox
        polled_devices: dict[int, bool] = {}  # so that each file system is queried once

        def entered(here: str, device: int) -> None:
            if self._unreadable and Path(here) in self._unreadable:
                self._unreadable.discard(Path(here))
                log.info("inbox_folder_readable_again", folder=here)
            if device not in polled_devices:
                polled_devices[device] = needs_polling(Path(here), self._settings.watch)
            if polled_devices[device]:
                self._begin_polling(here, inbox)
            elif here in self._polled_names and Path(here) not in self._eventless:
                self._stop_polling(Path(here))  # a file system that was mounted here is unmounted
            if not self._is_polled(here):
                self._entered += 1

        takes_turns = self._turns is not None
        try:
            for files in walk(
                folder,
                inbox,
                self.rules,
                on_folder=entered,
                on_unreadable=self._unreadable_folder,
                on_other=self._keep_other,
                is_due=self._known.is_due if takes_turns else lambda _path: True,
            ):
                if takes_turns:
                    for file in files:
                        self._known.add(file.path_text)
                yield files
        except OSError as error:
            self._stop_polling(folder)  # it may be on another file system when it returns
            self._unreadable_folder(folder, error)

    def _keep_other(self, file: Found) -> None:
        if len(self._others) < MOST_OTHERS:
            self._others.append(file)

    def _begin_polling(self, folder: str, inbox: Path) -> None:
        if self._is_polled(folder):
            return
        self._poll_only(self._polled | {Path(folder): inbox})
        self._next_poll = min(self._next_poll, self._clock() + self._settings.poll_s)
        log.info("inbox_folder_polled", folder=folder, every_s=self._settings.poll_s)

    def _stop_polling(self, folder: Path) -> None:
        self._poll_only({each: self._polled[each] for each in self._polled if each != folder})

    def _poll_only(self, folders: dict[Path, Path]) -> None:
        self._polled = folders
        self._polled_names = frozenset(map(str, folders))
        self._polled_prefixes = tuple(f"{name.rstrip('/')}/" for name in self._polled_names)

    def _is_polled(self, folder: str) -> bool:
        return f"{folder}/".startswith(self._polled_prefixes)

    def _unreadable_folder(self, folder: Path, error: OSError) -> None:
        gone = isinstance(error, FileNotFoundError) and folder not in self._settings.inboxes
        if not gone and folder not in self._unreadable:
            self._unreadable.add(folder)
            log.warning("inbox_folder_unreadable", folder=str(folder), reason=error.strerror)
