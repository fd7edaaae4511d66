"""Collect the paths that file-system events name.

Events only make discovery faster; sweeps find every file.
"""

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from her2d.errors import Her2dError
from her2d.intake.discovery import MOST_LEVELS
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_MOST_PATHS = 10_000
_MOST_FOLDERS = 10_000

# Without opened and closed files: each sweep opens every folder, and its own events would fill the
# kernel's queue.
_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]


class UnwatchableError(Her2dError, OSError):
    """An inbox has too many folders, or too deep ones, for events; sweeps find its files."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A watch, its event handler, and the device and inode of the watched folder."""

    watch: ObservedWatch
    handler: "_EventHandler"
    folder: tuple[int, int]


class Watcher:
    """Collects the paths that events name until `take` returns them, each path once.

    Args:
        wake: set whenever a path was added.

    Attributes:
        restarts: how often all watches were made again because a thread had died.
    """

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._paths: set[Path] = set()
        self._overflowed = False
        self._deleted: set[Path] = set()
        self._lock = threading.Lock()
        self._watched: dict[Path, _Watched] = {}
        self._observer: BaseObserver | None = None  # started by the first watch
        self.restarts = 0

    def watch(self, inbox: Path) -> bool:
        """Watch an inbox and its subfolders.

        A folder that was deleted and created again, or that a file system was mounted on, is a
        different folder with the same name and gets a new watch.

        Returns:
            True if a watch was added, False if the folder was watched already.

        Raises:
            UnwatchableError: it has too many folders, or too deep ones.
            OSError: the folder does not exist, or a limit of the system is reached.
        """
        try:
            found = inbox.stat()
        except OSError:
            self.forget(inbox)
            raise
        folder = (found.st_dev, found.st_ino)
        with self._lock:
            deleted = inbox in self._deleted  # a new folder may have the old one's inode
            self._deleted.discard(inbox)
        if not deleted and inbox in self._watched and self._watched[inbox].folder == folder:
            return False
        for name in self._names_of(inbox):
            self.forget(name)  # all names, or `schedule` would return the old watch
        # inotify does not follow links, and its events name the real path.
        real = inbox.resolve()
        require_watchable(real)
        handler = _EventHandler(self, inbox, real)
        self._observer = observer = self._observer or _started_observer()
        watch = observer.schedule(handler, str(real), recursive=True, event_filter=_EVENTS)
        self._watched[inbox] = _Watched(watch, handler, folder)
        return True

    def forget(self, inbox: Path) -> None:
        """Stop watching an inbox."""
        others = self._names_of(inbox) - {inbox}
        watched = self._watched.pop(inbox, None)
        if watched is None or self._observer is None:
            return
        if others:
            self._observer.remove_handler_for_watch(watched.handler, watched.watch)
        else:
            self._observer.unschedule(watched.watch)

    def _names_of(self, inbox: Path) -> set[Path]:
        """Return the inboxes whose paths lead to the same watched folder."""
        watched = self._watched.get(inbox)
        if watched is None:
            return set()
        return {name for name, other in self._watched.items() if other.watch == watched.watch}

    def keep_only(self, inboxes: tuple[Path, ...]) -> None:
        """Stop watching all other inboxes."""
        for inbox in set(self._watched) - set(inboxes):
            self.forget(inbox)

    def take(self) -> set[Path] | None:
        """Return the paths named since the last call, or None if there were too many to keep."""
        with self._lock:
            paths, self._paths = self._paths, set()
            overflowed, self._overflowed = self._overflowed, False
        return None if overflowed else paths

    def check(self) -> bool:
        """Return whether all threads run. If one has died, forget all watches, to be added again.

        watchdog has one thread that reads the kernel's queue, one for each watched folder that
        translates what was read, and one that calls the event handlers.
        """
        if self._observer is None:
            return True
        threads = [self._observer, *self._observer.emitters]
        # The thread that reads the kernel's queue has no public name.
        threads += filter(None, [getattr(self._observer, "_inotify_fd", None)])
        # A thread that was told to stop, because its folder was deleted, has not died.
        died = [each.name for each in threads if each.should_keep_running() and not each.is_alive()]
        if not died:
            return True
        log.error("inbox_watch_died", threads=died)
        self.restarts += 1
        observer, self._observer = self._observer, None
        self._watched.clear()
        observer.stop()
        return False

    def stop(self) -> None:
        """Stop watching all inboxes, and end the observer's thread."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def enqueue(self, paths: Iterable[Path]) -> None:
        """Add paths that an event names; safe to call from any thread."""
        with self._lock:
            self._paths.update(paths)
            if len(self._paths) > _MOST_PATHS:
                self._paths.clear()
                self._overflowed = True
        self._wake.set()

    def enqueue_deletion(self, inbox: Path) -> None:
        """Note that a watched folder itself was deleted; safe to call from any thread."""
        with self._lock:
            self._deleted.add(inbox)


def require_watchable(folder: Path) -> None:
    """Raise UnwatchableError if a folder holds more folders, or deeper ones, than are watched.

    watchdog walks the tree in one go, and calls itself for each level.
    """
    waiting, found = [(folder, 0)], 0
    while waiting:
        here, level = waiting.pop()
        found += 1
        if level > MOST_LEVELS:
            raise UnwatchableError(f"its folders are nested more than {MOST_LEVELS} deep")
        if found > _MOST_FOLDERS:
            raise UnwatchableError(f"it has more than {_MOST_FOLDERS} folders")
        try:
            with os.scandir(here) as entries:
                waiting += [
                    (Path(entry.path), level + 1)
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            if here == folder:
                raise


def _started_observer() -> BaseObserver:
    observer = Observer()
    observer.daemon = True
    observer.start()
    return observer


class _EventHandler(FileSystemEventHandler):
    """Handles the events of one inbox.

    Args:
        watcher: collects the paths.
        inbox: the inbox as the settings name it; its files are reported below this path.
        real: the inbox with all symbolic links resolved, which is the path that events name.
    """

    def __init__(self, watcher: Watcher, inbox: Path, real: Path) -> None:
        self._watcher = watcher
        self._inbox = inbox
        self._real = real

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        if event.event_type == "deleted" and self._named(event.src_path) == self._inbox:
            self._watcher.enqueue_deletion(self._inbox)
        # A change in a folder is reported by the events of its files as well.
        if event.is_directory and event.event_type not in ("created", "moved"):
            return
        self._watcher.enqueue(self._named(at) for at in (event.src_path, event.dest_path) if at)

    def _named(self, at: bytes | str) -> Path:
        path = Path(os.fsdecode(at))
        within = path.is_relative_to(self._real)
        return self._inbox / path.relative_to(self._real) if within else path
