"""File-system events -> paths worth a look. Events are a hint; the sweep is the truth."""

import threading
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

_MOST_PATHS = 10_000


@dataclass(frozen=True, slots=True)
class _Watched:
    """A watch, and the very folder it is on: device and inode."""

    watch: ObservedWatch
    folder: tuple[int, int]


class Watcher(FileSystemEventHandler):
    """Collects the paths that events name until somebody takes them; many events are one path."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._paths: set[Path] = set()
        self._overflowed = False
        self._lock = threading.Lock()
        self._observer = Observer()
        self._observer.daemon = True
        self._watched: dict[Path, _Watched] = {}
        self._observer.start()

    def watch(self, inbox: Path) -> bool:
        """Watch `inbox` and its subfolders; True where that is new.

        A folder that was removed and made anew, or that something was mounted on, is another
        folder of the same name, and is watched anew.

        Raises OSError where the folder is gone or the system's limit of watches is reached.
        """
        try:
            found = inbox.stat()
        except OSError:
            self.forget(inbox)
            raise
        folder = (found.st_dev, found.st_ino)
        if inbox in self._watched and self._watched[inbox].folder == folder:
            return False
        self.forget(inbox)
        watch = self._observer.schedule(self, str(inbox), recursive=True)
        self._watched[inbox] = _Watched(watch, folder)
        return True

    def forget(self, inbox: Path) -> None:
        """Stop watching an inbox."""
        if watched := self._watched.pop(inbox, None):
            self._observer.unschedule(watched.watch)

    def keep_only(self, inboxes: tuple[Path, ...]) -> None:
        """Stop watching all others."""
        for inbox in set(self._watched) - set(inboxes):
            self.forget(inbox)

    def take(self) -> set[Path] | None:
        """The paths named since the last call; None where there were too many to keep."""
        with self._lock:
            paths, self._paths = self._paths, set()
            overflowed, self._overflowed = self._overflowed, False
        return None if overflowed else paths

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        # A folder that was written to is news of its files, which come with events of their own.
        if event.is_directory and event.event_type not in ("created", "moved"):
            return
        with self._lock:
            for name in (event.src_path, event.dest_path):
                if name:
                    self._paths.add(Path(str(name)))
            if len(self._paths) > _MOST_PATHS:
                self._paths.clear()
                self._overflowed = True
        self._wake.set()
