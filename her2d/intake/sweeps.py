"""The schedule of searches in the inboxes.

File-system events only make discovery faster. Every file is found by a full sweep, every `sweep_s`
seconds. A full sweep also determines which folders lie on file systems without events, and those
are searched every `poll_s` seconds. Where there are so many folders that this would take more than
a tenth of a processor, they are searched less often.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from her2d.intake.discovery import Found, ScanRules, walk
from her2d.settings import IntakeSettings
from her2d.system.filesystems import needs_polling
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_MOST_REQUESTED = 1000
_MOST_OTHERS = 10_000
_WORK_S = 1.0  # searches that take less may follow each other at once
_PAUSE_PER_WORK = 9  # seconds for each second of work, which leaves a sweep a tenth of a processor


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
        self._polled: dict[Path, Path] = {}
        self._eventless: set[Path] = set()
        self._unreadable: set[Path] = set()
        self._requested: deque[tuple[Path, Path]] = deque()
        self.left_out: frozenset[Path] = frozenset()
        self.paused: frozenset[Path] = frozenset()
        self._walked: Path | None = None
        self._under_way: Iterator[Found] | None = None
        self._entered = 0
        self._others: list[Found] = []
        self._work_s = 0.0
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

    def apply(self, settings: IntakeSettings) -> None:
        """Continue with other settings; the next sweep is a full one."""
        self._settings = settings
        self.rules = ScanRules.of(settings)
        self._polled = {}
        self._eventless = set()
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
        """Request a full sweep next, because events were lost or settings changed."""
        self._next_full = self._earliest

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
        self._begin_polling(inbox, inbox)

    def watched_folders(self) -> int | None:
        """Return how many folders the last full sweep left to events.

        Returns None if no full sweep has ended since the previous call.
        """
        watched_folders, self._watched_folders = self._watched_folders, None
        return watched_folders

    def take(self, most: int) -> list[Found]:
        """Return at most `most` files of the folders that are due; none if nothing is due."""
        while True:
            if self._under_way is None:
                self._under_way = self._due()
            if self._under_way is None or self._walked in self.paused:
                return []
            began = time.thread_time()
            files = list(islice(self._under_way, most))
            self._work_s += time.thread_time() - began
            if files:
                return files
            self._under_way = self._walked = None
            self._rest()

    def take_others(self) -> list[Found]:
        """Return the files found since the previous call that are not scans, as far as kept."""
        others, self._others = self._others, []
        return others

    def _rest(self) -> None:
        """Bound the share of a processor that searches take, by the work of the one that ended."""
        work_s, self._work_s = self._work_s, 0.0
        if work_s < _WORK_S:
            return
        pause_s = _PAUSE_PER_WORK * work_s
        self._earliest = max(self._earliest, self._clock() + pause_s)
        self._next_full = max(self._next_full, self._earliest)
        self._next_poll = max(self._next_poll, self._earliest)
        if pause_s > self._settings.sweep_s and not self._slow_was_told:
            self._slow_was_told = True
            log.warning("inbox_sweeps_slowed", folders=self._entered, every_s=round(pause_s))

    def _due(self) -> Iterator[Found] | None:
        now = self._clock()
        if now >= self._next_full:
            self._next_full = now + self._settings.sweep_s
            self._next_poll = now + self._settings.poll_s
            return self._everything()
        if self._polled and now >= self._next_poll:
            self._next_poll = now + self._settings.poll_s
            return self._trees(list(self._polled.items()))
        for request in self._requested:
            if request[1] not in self.paused | self.left_out:
                self._requested.remove(request)
                return self._trees([request])
        return None

    def _everything(self) -> Iterator[Found]:
        self._entered = 0
        for inbox in self._settings.inboxes:
            yield from self._tree(inbox, inbox)
        if not self.left_out:
            self._watched_folders = self._entered

    def _trees(self, trees: list[tuple[Path, Path]]) -> Iterator[Found]:
        for folder, inbox in trees:
            yield from self._tree(folder, inbox)

    def _tree(self, folder: Path, inbox: Path) -> Iterator[Found]:
        if inbox in self.left_out:
            return
        if inbox in self.paused:
            self.request(folder, inbox)
            return
        self._walked = inbox
        polled_devices: dict[int, bool] = {}  # so that each file system is queried once

        def entered(here: Path, device: int) -> None:
            if here in self._unreadable:
                self._unreadable.discard(here)
                log.info("inbox_folder_readable_again", folder=str(here))
            if device not in polled_devices:
                polled_devices[device] = needs_polling(here, self._settings.watch)
            if polled_devices[device]:
                self._begin_polling(here, inbox)
            elif here not in self._eventless:
                self._polled.pop(here, None)  # a file system that was mounted here is unmounted
            if not any(here.is_relative_to(above) for above in self._polled):
                self._entered += 1

        try:
            yield from walk(
                folder,
                inbox,
                self.rules,
                on_folder=entered,
                on_unreadable=self._unreadable_folder,
                on_other=self._keep_other,
            )
        except OSError as error:
            self._polled.pop(folder, None)  # it may be on another file system when it returns
            self._unreadable_folder(folder, error)

    def _keep_other(self, file: Found) -> None:
        if len(self._others) < _MOST_OTHERS:
            self._others.append(file)

    def _begin_polling(self, folder: Path, inbox: Path) -> None:
        if any(folder.is_relative_to(above) for above in self._polled):
            return
        self._polled[folder] = inbox
        self._next_poll = min(self._next_poll, self._clock() + self._settings.poll_s)
        log.info("inbox_folder_polled", folder=str(folder), every_s=self._settings.poll_s)

    def _unreadable_folder(self, folder: Path, error: OSError) -> None:
        gone = isinstance(error, FileNotFoundError) and folder not in self._settings.inboxes
        if not gone and folder not in self._unreadable:
            self._unreadable.add(folder)
            log.warning("inbox_folder_unreadable", folder=str(folder), reason=error.strerror)
