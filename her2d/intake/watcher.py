"""File-system events -> paths worth a look. Events are a hint; the sweep is the truth."""

import threading
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch


class Watcher(FileSystemEventHandler):
    """Collects the paths that events name until somebody takes them; many events are one path."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._paths: set[Path] = set()
        self._lock = threading.Lock()
        self._observer = Observer()
        self._observer.daemon = True
        self._watched: dict[Path, ObservedWatch] = {}
        self._observer.start()

    def watch(self, inbox: Path) -> bool:
        """Begin to watch `inbox` and its subfolders; True where that is new.

        Raises OSError where the folder is gone or the system's limit of watches is reached.
        """
        if inbox in self._watched:
            return False
        self._watched[inbox] = self._observer.schedule(self, str(inbox), recursive=True)
        return True

    def forget(self, inbox: Path) -> None:
        """Stop watching an inbox that went away, so that it is watched anew when it returns."""
        if watch := self._watched.pop(inbox, None):
            self._observer.unschedule(watch)

    def take(self) -> set[Path]:
        """The paths named since the last call."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory or event.event_type in ("opened", "closed_no_write"):
            return
        with self._lock:
            for name in (event.src_path, event.dest_path):
                if name:
                    self._paths.add(Path(str(name)))
        self._wake.set()
