"""What the storage of folders says, and whether it answers.

A share whose server is gone hangs whoever asks for anything on it, and nothing but its return ends
that (nfs(5) and mount.cifs(8), "hard"). So it is asked here, in threads of their own, and everybody
else asks whether it answers before touching it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from her2d.intake import existing_folder, mounts_below
from her2d.upkeep import newest_backup

log = structlog.get_logger(__name__)

_INBOX_EVERY_S = 1.0
_BACKUPS_EVERY_S = 15.0
_HANGS_AFTER_S = 5.0

T = TypeVar("T")


class Asking(Generic[T]):
    """Asks one question again and again, in a thread of its own. The question must not raise."""

    def __init__(self, question: Callable[[], T], every_s: float) -> None:
        self._question = question
        self._every_s = every_s
        self._answer: T | None = None
        self._answers = 0
        self._asked_at: float | None = time.monotonic()
        self._wanted = False
        self._stopped = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="her2d-storage", daemon=True).start()

    @property
    def answer(self) -> T | None:
        """The last answer; None where there is none yet, or where the next is overdue."""
        asked_at = self._asked_at
        overdue = asked_at is not None and time.monotonic() - asked_at > _HANGS_AFTER_S
        return None if overdue else self._answer

    def answers(self, within_s: float) -> bool:
        """Whether an answer comes within that time from now."""
        with self._changed:
            before, self._wanted = self._answers, True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._answers > before, within_s)

    def close(self) -> None:
        """Ask no more. A question that hangs is left to itself."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stopped:
            self._asked_at = time.monotonic()
            answer = self._question()
            with self._changed:
                self._answer, self._asked_at = answer, None
                self._answers += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wanted or self._stopped, self._every_s)
                self._wanted = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder as its storage shows it.

    Attributes:
        readable: whether we may list it.
        free_bytes, size_bytes: of its file system; None where it does not say.
    """

    readable: bool
    free_bytes: int | None
    size_bytes: int | None


class Storage:
    """Asks the inboxes and the folder of backups. Safe to use from several threads."""

    def __init__(self, inboxes: Iterable[Path], backups: Path) -> None:
        self._inboxes: dict[Path, Asking[Seen]] = {}
        self._backups = Asking(lambda: _last_backup(backups), _BACKUPS_EVERY_S)
        self._backups.answers(_HANGS_AFTER_S)
        self.apply(inboxes)

    def apply(self, inboxes: Iterable[Path]) -> None:
        """Go on with other inboxes; waits a moment for what new ones say."""
        before = self._inboxes
        self._inboxes = {inbox: before.get(inbox) or _asking(inbox) for inbox in inboxes}
        for inbox in before.keys() - self._inboxes.keys():
            before[inbox].close()
        for inbox in self._inboxes.keys() - before.keys():
            self._inboxes[inbox].answers(_HANGS_AFTER_S)

    def seen(self, inbox: Path) -> Seen | None:
        """What the inbox's storage says; None where it does not answer."""
        asking = self._inboxes.get(inbox)
        return asking.answer if asking is not None else None

    def trouble(self, inbox: Path) -> str | None:
        """Why files of that inbox are not found; None where nothing speaks against it."""
        seen = self.seen(inbox)
        if seen is None:
            return f"The inbox {inbox} does not answer."
        return None if seen.readable else f"The inbox {inbox} cannot be read."

    def answers(self, inbox: Path | None, within_s: float = _HANGS_AFTER_S) -> bool:
        """Whether whoever touches that inbox now is unlikely to wait for a server that is gone."""
        asking = self._inboxes.get(inbox) if inbox is not None else None
        return asking is None or (asking.answer is not None and asking.answers(within_s))

    def hanging(self) -> frozenset[Path]:
        """The inboxes that do not answer."""
        inboxes = self._inboxes.items()
        return frozenset(inbox for inbox, asking in inboxes if asking.answer is None)

    def last_backup_at(self) -> float | None:
        """When the database was last backed up, in seconds since 1970; None where unknown."""
        return self._backups.answer

    def close(self) -> None:
        self._backups.close()
        for asking in self._inboxes.values():
            asking.close()


def answers(inbox: Path, within_s: float) -> bool:
    """Whether an inbox that nobody asks yet answers within that time."""
    with closing(_asking(inbox)) as asking:
        return asking.answers(within_s)


def _asking(inbox: Path) -> Asking[Seen]:
    return Asking(lambda: _look_at(inbox), _INBOX_EVERY_S)


def _look_at(inbox: Path) -> Seen:
    """Ask the inbox, and whatever is mounted below it: a sweep would hang there as well."""
    readable = os.access(inbox, os.R_OK | os.X_OK)
    try:
        for folder in mounts_below(inbox):
            os.access(folder, os.R_OK | os.X_OK)
        usage = shutil.disk_usage(existing_folder(inbox))
    except OSError as error:
        log.debug("disk_unknown", folder=str(inbox), reason=str(error))
        return Seen(readable, None, None)
    return Seen(readable, usage.free, usage.total)


def _last_backup(folder: Path) -> float | None:
    try:
        newest = newest_backup(folder)
        return newest.stat().st_mtime if newest is not None else None
    except OSError as error:
        log.debug("backups_unknown", reason=str(error))
        return None
