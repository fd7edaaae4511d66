"""What the storage of folders says, and whether it answers.

A share whose server is gone hangs whoever asks for anything on it, and nothing but its return ends
that (nfs(5) and mount.cifs(8), "hard"). So it is asked here, in threads of their own, and everybody
else asks whether it answers before touching it.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from her2d.db.backup import newest_backup
from her2d.system.disk_space import existing_folder
from her2d.system.linux import mounts_below

log = structlog.get_logger(__name__)

_INBOX_EVERY_S = 1.0
_ARCHIVES_EVERY_S = 15.0  # its answer is waited for before a file there is touched
_BACKUPS_EVERY_S = 15.0
_HANGS_AFTER_S = 5.0
_RECOVERED_WITHIN_S = 2.0  # or a share about as slow as that would come and go all day

T = TypeVar("T")


class FolderProbe(Generic[T]):
    """Asks one question again and again, in a thread of its own."""

    def __init__(self, question: Callable[[], T], every_s: float) -> None:
        self._question = question
        self._every_s = every_s
        self._answer: T | None = None
        self._answers = 0
        self._taken = 0
        self._asked_at: float | None = time.monotonic()
        self._hung = False
        self._wanted = False
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="her2d-storage", daemon=True).start()

    @property
    def answer(self) -> T | None:
        """The last answer; None where there is none yet, or where whoever asks hangs."""
        asked_at = self._asked_at
        overdue = asked_at is not None and time.monotonic() - asked_at > _HANGS_AFTER_S
        return None if overdue or self._hung else self._answer

    def ask(self) -> int:
        """Begin to ask now, if nothing is under way. Returns how many answers came so far."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            return self._answers

    def answers(self, within_s: float) -> bool:
        """Whether an answer comes within that time from now."""
        before = self.ask()
        with self._changed:
            return self._changed.wait_for(lambda: self._answers > before, within_s)

    def has_answered(self, before: int, until: float) -> bool:
        """Whether an answer beyond the first `before` comes until that monotonic time, or one has
        come since the last call: of a slow share, it may come when nobody waits for it."""
        with self._changed:
            left_s = max(0.0, until - time.monotonic())
            self._changed.wait_for(lambda: self._answers > before, left_s)
            since, self._taken = self._answers - self._taken, self._answers
            return since > 0

    def close(self) -> None:
        """Ask no more. A question that hangs is left to itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            self._asked_at = asked_at = time.monotonic()
            answer = self._asked()
            took_s = time.monotonic() - asked_at
            with self._changed:
                limit_s = _RECOVERED_WITHIN_S if self._hung else _HANGS_AFTER_S
                self._hung = took_s > limit_s
                self._answer, self._asked_at = answer, None
                self._answers += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wanted or self._closed, self._every_s)
                self._wanted = False

    def _asked(self) -> T | None:
        try:
            return self._question()
        except Exception:
            log.exception("storage_question_failed")
            return None


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """A folder as its storage shows it.

    Attributes:
        readable: whether we may list it.
        free_bytes, size_bytes: of its file system; None where it does not say.
    """

    readable: bool
    free_bytes: int | None
    size_bytes: int | None


class StorageProbe:
    """Asks the inboxes, the folders that finished files go to, and that of backups. Safe to use
    from several threads."""

    def __init__(
        self, inboxes: Iterable[Path], backups: Path, archive_folders: Iterable[Path] = ()
    ) -> None:
        self._inboxes: dict[Path, FolderProbe[FolderStatus]] = {}
        self._archive_folders: dict[Path, FolderProbe[FolderStatus]] = {}
        self._backups = FolderProbe(lambda: _last_backup(backups), _BACKUPS_EVERY_S)
        self._backups.answers(_HANGS_AFTER_S)
        self.apply(inboxes, archive_folders)

    def apply(self, inboxes: Iterable[Path], archive_folders: Iterable[Path] = ()) -> None:
        """Go on with other folders; waits a moment for what new ones say."""
        self._inboxes = _asked_from_now_on(self._inboxes, inboxes, _INBOX_EVERY_S)
        self._archive_folders = _asked_from_now_on(
            self._archive_folders, archive_folders, _ARCHIVES_EVERY_S
        )

    def seen(self, inbox: Path) -> FolderStatus | None:
        """What the inbox's storage says; None where it does not answer."""
        asking = self._inboxes.get(inbox)
        return asking.answer if asking is not None else None

    def problem(self, inbox: Path) -> str | None:
        """Why files of that inbox are not found; None where nothing speaks against it."""
        seen = self.seen(inbox)
        if seen is None:
            return f"The inbox {inbox} does not answer."
        return None if seen.readable else f"The inbox {inbox} cannot be read."

    def is_reachable(self, path: Path) -> bool:
        """Whether whoever touches that file, or folder, is unlikely to wait for a server that is
        gone. Of what lies in no folder that is asked nothing is known."""
        known = (*self._inboxes.items(), *self._archive_folders.items())
        asked = [asking for folder, asking in known if path.is_relative_to(folder)]
        return all(a.answer is not None and a.answers(_HANGS_AFTER_S) for a in asked)

    def hanging(self) -> frozenset[Path]:
        """The inboxes that do not answer."""
        inboxes = self._inboxes.items()
        return frozenset(inbox for inbox, asking in inboxes if asking.answer is None)

    def slow(self, within_s: float) -> frozenset[Path]:
        """The inboxes, of those that do not hang, that do not answer within that time from now and
        have not done so since the last call. For one caller only."""
        asked = [(inbox, a, a.ask()) for inbox, a in self._inboxes.items() if a.answer is not None]
        until = time.monotonic() + within_s
        return frozenset(inbox for inbox, a, before in asked if not a.has_answered(before, until))

    def last_backup_at(self) -> float | None:
        """When the database was last backed up, in seconds since 1970; None where unknown."""
        return self._backups.answer

    def close(self) -> None:
        self._backups.close()
        for asking in (*self._inboxes.values(), *self._archive_folders.values()):
            asking.close()


def answers(inbox: Path, within_s: float) -> bool:
    """Whether an inbox that nobody asks yet answers within that time."""
    with closing(_asking(inbox, _INBOX_EVERY_S)) as asking:
        return asking.answers(within_s)


def _asked_from_now_on(
    before: Mapping[Path, FolderProbe[FolderStatus]], folders: Iterable[Path], every_s: float
) -> dict[Path, FolderProbe[FolderStatus]]:
    asked = {folder: before.get(folder) or _asking(folder, every_s) for folder in folders}
    for folder in before.keys() - asked.keys():
        before[folder].close()
    for folder in asked.keys() - before.keys():
        asked[folder].answers(_HANGS_AFTER_S)
    return asked


def _asking(folder: Path, every_s: float) -> FolderProbe[FolderStatus]:
    return FolderProbe(lambda: _look_at(folder), every_s)


def _look_at(folder: Path) -> FolderStatus:
    """Ask the folder, and whatever is mounted below it: a sweep would hang there as well."""
    readable = os.access(folder, os.R_OK | os.X_OK)
    try:
        for mount in mounts_below(folder.resolve()):
            os.statvfs(mount)  # which no cache answers
        usage = shutil.disk_usage(existing_folder(folder))
    except OSError as error:
        log.debug("disk_unknown", folder=str(folder), reason=str(error))
        return FolderStatus(readable, None, None)
    return FolderStatus(readable, usage.free, usage.total)


def _last_backup(folder: Path) -> float | None:
    try:
        newest = newest_backup(folder)
        return newest.stat().st_mtime if newest is not None else None
    except OSError as error:
        log.debug("backups_unknown", reason=str(error))
        return None
