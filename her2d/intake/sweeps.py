"""When which folder is searched: everything now and then, silent file systems often.

Events are a hint; sweeps are the truth. A full sweep also learns which folders lie on file systems
that tell of no changes, and those are searched every `poll_s` seconds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import structlog

from her2d.intake.discovery import Found, ScanRules, walk
from her2d.settings import IntakeSettings
from her2d.system.filesystems import needs_polling

log = structlog.get_logger(__name__)

_MOST_ASKED_FOR = 1000


class Sweeps:
    """Which files to look at next; remembers folders, never files.

    Attributes:
        rules: what counts as a scan.
        left_out: inboxes that are not searched, as `leave_out` was told.
        paused: inboxes that are searched later; whoever drives the sweeps says which.
    """

    def __init__(self, settings: IntakeSettings, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_full = float("-inf")
        self._next_poll = float("inf")
        self._polled: dict[Path, Path] = {}
        self._eventless: set[Path] = set()
        self._unreadable: set[Path] = set()
        self._asked: deque[tuple[Path, Path]] = deque()
        self.left_out: frozenset[Path] = frozenset()
        self.paused: frozenset[Path] = frozenset()
        self._walked: Path | None = None
        self._under_way: Iterator[Found] | None = None
        self._entered = 0
        self._watched_folders: int | None = None
        self.apply(settings)

    @property
    def polled(self) -> frozenset[Path]:
        """The tops of the trees that are searched every `poll_s` seconds."""
        return frozenset(self._polled)

    @property
    def unreadable(self) -> frozenset[Path]:
        """The folders that could not be read the last time."""
        return frozenset(self._unreadable)

    def apply(self, settings: IntakeSettings) -> None:
        """Go on with other settings, beginning with a full sweep."""
        self._settings = settings
        self.rules = ScanRules.of(settings)
        self._polled = {}
        self._eventless = set()
        self.all_soon()

    def leave_out(self, inboxes: frozenset[Path]) -> None:
        """Search these inboxes no more, and what is no longer among them at once."""
        if self._walked in inboxes - self.left_out:
            self._under_way = self._walked = None
            self.all_soon()
        for inbox in self.left_out - inboxes:
            self.soon(inbox, inbox)
        self.left_out = inboxes

    def all_soon(self) -> None:
        """Sweep everything next: events were lost, or things changed."""
        self._next_full = float("-inf")

    def soon(self, folder: Path, inbox: Path) -> None:
        """Search one folder next."""
        if len(self._asked) >= _MOST_ASKED_FOR:
            self._asked.clear()
            self.all_soon()
        elif (folder, inbox) not in self._asked:
            self._asked.append((folder, inbox))

    def poll(self, inbox: Path) -> None:
        """Search this inbox often: its events cannot be had."""
        self._eventless.add(inbox)
        self._begin_polling(inbox, inbox)

    def watched_folders(self) -> int | None:
        """How many folders the full sweep that just ended left to events; None where none ended
        since the last call."""
        watched_folders, self._watched_folders = self._watched_folders, None
        return watched_folders

    def take(self, most: int) -> list[Found]:
        """The next files of what is due, at most so many; none when nothing is due."""
        while True:
            if self._under_way is None:
                self._under_way = self._due()
            if self._under_way is None or self._walked in self.paused:
                return []
            if files := list(islice(self._under_way, most)):
                return files
            self._under_way = self._walked = None

    def _due(self) -> Iterator[Found] | None:
        now = self._clock()
        if now >= self._next_full:
            self._next_full = now + self._settings.sweep_s
            self._next_poll = now + self._settings.poll_s
            return self._everything()
        if self._polled and now >= self._next_poll:
            self._next_poll = now + self._settings.poll_s
            return self._trees(list(self._polled.items()))
        for asked in self._asked:
            if asked[1] not in self.paused | self.left_out:
                self._asked.remove(asked)
                return self._trees([asked])
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
            self.soon(folder, inbox)
            return
        self._walked = inbox
        silent: dict[int, bool] = {}  # by device: one question for each file system

        def entered(here: Path, device: int) -> None:
            if here in self._unreadable:
                self._unreadable.discard(here)
                log.info("folder_readable_again", folder=str(here))
            if device not in silent:
                silent[device] = needs_polling(here, self._settings.watch)
            if silent[device]:
                self._begin_polling(here, inbox)
            elif here not in self._eventless:
                self._polled.pop(here, None)  # what was mounted here is gone
            if not any(here.is_relative_to(above) for above in self._polled):
                self._entered += 1

        try:
            yield from walk(
                folder, inbox, self.rules, on_folder=entered, on_unreadable=self._problem
            )
        except OSError as error:
            self._polled.pop(folder, None)  # when it returns, it may be another file system
            self._problem(folder, error)

    def _begin_polling(self, folder: Path, inbox: Path) -> None:
        if any(folder.is_relative_to(above) for above in self._polled):
            return
        self._polled[folder] = inbox
        self._next_poll = min(self._next_poll, self._clock() + self._settings.poll_s)
        log.info("folder_polled", folder=str(folder), every_s=self._settings.poll_s)

    def _problem(self, folder: Path, error: OSError) -> None:
        gone = isinstance(error, FileNotFoundError) and folder not in self._settings.inboxes
        if not gone and folder not in self._unreadable:
            self._unreadable.add(folder)
            log.warning("folder_unreadable", folder=str(folder), reason=error.strerror)
