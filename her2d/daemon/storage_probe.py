"""Check whether the storage of inboxes, archive and backups responds.

A share whose server is down blocks every thread that accesses it until the server returns (nfs(5)
and mount.cifs(8), "hard"). So the folders are probed here, in threads that may block. All other
code checks whether a folder responds before it accesses the folder.
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

from her2d.db.backup import newest_backup
from her2d.system.disk_space import existing_folder
from her2d.system.linux import mounts_below
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_INBOX_EVERY_S = 1.0
_ARCHIVES_EVERY_S = 15.0  # each file that is moved there waits for a new answer
_BACKUPS_EVERY_S = 15.0
_HANGS_AFTER_S = 5.0
_RECOVERED_WITHIN_S = 2.0  # shorter, or a slow share would change its status all day

T = TypeVar("T")


class FolderProbe(Generic[T]):
    """Probes one folder at regular intervals, in its own thread."""

    def __init__(self, probe: Callable[[], T], every_s: float) -> None:
        self._probe = probe
        self._every_s = every_s
        self._answer: T | None = None
        self._answers = 0
        self._answers_reported = 0
        self._started_at: float | None = time.monotonic()
        self._hangs = False
        self._start_now = False
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="her2d-storage", daemon=True).start()

    @property
    def answer(self) -> T | None:
        """The last answer; None if there is none yet, or if the probe hangs."""
        started_at = self._started_at
        overdue = started_at is not None and time.monotonic() - started_at > _HANGS_AFTER_S
        return None if overdue or self._hangs else self._answer

    def start(self) -> int:
        """Start a probe unless one is running, and return the number of answers so far."""
        with self._changed:
            self._start_now = True
            self._changed.notify_all()
            return self._answers

    def answers_within(self, within_s: float) -> bool:
        """Return whether an answer to a probe that starts now comes within `within_s`."""
        before = self.start()
        with self._changed:
            return self._changed.wait_for(lambda: self._answers > before, within_s)

    def newest(self, within_s: float) -> T | None:
        """Return the answer to a probe that starts now, or the last one if it takes too long.

        Args:
            within_s: how many seconds to wait for it. Without a last answer, it waits until the
                probe counts as hanging.

        Returns:
            The answer; None if the probe hangs.
        """
        self.answers_within(within_s if self._answers else _HANGS_AFTER_S)
        return self.answer

    def answered_since(self, before: int, until: float) -> bool:
        """Return whether the folder has answered since the last call, or answers in time.

        A slow share may answer between two calls.

        Args:
            before: the number of answers so far, as `start` returned it.
            until: the time of `time.monotonic` until which to wait for another answer.
        """
        with self._changed:
            left_s = max(0.0, until - time.monotonic())
            self._changed.wait_for(lambda: self._answers > before, left_s)
            since, self._answers_reported = self._answers - self._answers_reported, self._answers
            return since > 0

    def close(self) -> None:
        """Stop probing. A thread that hangs is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            self._started_at = started_at = time.monotonic()
            answer = self._probed()
            took_s = time.monotonic() - started_at
            with self._changed:
                limit_s = _RECOVERED_WITHIN_S if self._hangs else _HANGS_AFTER_S
                self._hangs = took_s > limit_s
                self._answer, self._started_at = answer, None
                self._answers += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._start_now or self._closed, self._every_s)
                self._start_now = False

    def _probed(self) -> T | None:
        try:
            return self._probe()
        except Exception:
            log.exception("storage_probe_failed")
            return None


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """The status of a folder, as a probe found it.

    Attributes:
        readable: whether this process may list the folder.
        free_bytes, size_bytes: of its file system; None if it does not report them.
    """

    readable: bool
    free_bytes: int | None
    size_bytes: int | None


class StorageProbe:
    """Probes the inboxes, the archive folders and the folder of backups.

    Safe to use from several threads.
    """

    def __init__(
        self, inboxes: Iterable[Path], backups: Path, archive_folders: Iterable[Path] = ()
    ) -> None:
        self._inboxes: dict[Path, FolderProbe[FolderStatus]] = {}
        self._archive_folders: dict[Path, FolderProbe[FolderStatus]] = {}
        self._backups = FolderProbe(lambda: _last_backup(backups), _BACKUPS_EVERY_S)
        self._backups.answers_within(_HANGS_AFTER_S)
        self.apply(inboxes, archive_folders)

    def apply(self, inboxes: Iterable[Path], archive_folders: Iterable[Path] = ()) -> None:
        """Replace the probed folders, and wait a moment for the new ones to answer."""
        self._inboxes = _probes_of(self._inboxes, inboxes, _INBOX_EVERY_S)
        self._archive_folders = _probes_of(
            self._archive_folders, archive_folders, _ARCHIVES_EVERY_S
        )

    def status(self, inbox: Path) -> FolderStatus | None:
        """Return the inbox's status; None if its storage does not answer."""
        probe = self._inboxes.get(inbox)
        return probe.answer if probe is not None else None

    def problem(self, inbox: Path) -> str | None:
        """Return why files in that inbox are not found; None if they are."""
        status = self.status(inbox)
        if status is None:
            return f"The inbox {inbox} does not answer."
        return None if status.readable else f"The inbox {inbox} cannot be read."

    def is_reachable(self, path: Path) -> bool:
        """Return whether the path can be accessed without waiting for a server that is down.

        True for a path outside the probed folders, of which nothing is known.
        """
        known = (*self._inboxes.items(), *self._archive_folders.items())
        probes = [probe for folder, probe in known if path.is_relative_to(folder)]
        return all(
            probe.answer is not None and probe.answers_within(_HANGS_AFTER_S) for probe in probes
        )

    def hanging(self) -> frozenset[Path]:
        """Return the inboxes that do not answer."""
        inboxes = self._inboxes.items()
        return frozenset(inbox for inbox, probe in inboxes if probe.answer is None)

    def slow(self, within_s: float) -> frozenset[Path]:
        """Return the inboxes that neither hang nor answer within `within_s`.

        An inbox that has answered since the last call is not returned. For one caller only.
        """
        probes = [
            (inbox, probe, probe.start())
            for inbox, probe in self._inboxes.items()
            if probe.answer is not None
        ]
        until = time.monotonic() + within_s
        return frozenset(
            inbox for inbox, probe, before in probes if not probe.answered_since(before, until)
        )

    def last_backup_at(self) -> float | None:
        """Return when the last backup was made, in seconds since 1970; None if unknown."""
        return self._backups.answer

    def close(self) -> None:
        self._backups.close()
        for probe in (*self._inboxes.values(), *self._archive_folders.values()):
            probe.close()


def inbox_answers(inbox: Path, within_s: float) -> bool:
    """Return whether an inbox that is not probed yet answers within `within_s`."""
    with closing(_probe_of(inbox, _INBOX_EVERY_S)) as probe:
        return probe.answers_within(within_s)


def _probes_of(
    before: Mapping[Path, FolderProbe[FolderStatus]], folders: Iterable[Path], every_s: float
) -> dict[Path, FolderProbe[FolderStatus]]:
    probes = {folder: before.get(folder) or _probe_of(folder, every_s) for folder in folders}
    for folder in before.keys() - probes.keys():
        before[folder].close()
    for folder in probes.keys() - before.keys():
        probes[folder].answers_within(_HANGS_AFTER_S)
    return probes


def _probe_of(folder: Path, every_s: float) -> FolderProbe[FolderStatus]:
    return FolderProbe(lambda: _folder_status(folder), every_s)


def _folder_status(folder: Path) -> FolderStatus:
    """Check the folder and every mount below it, since a sweep would hang there as well."""
    readable = os.access(folder, os.R_OK | os.X_OK)
    try:
        for mount in mounts_below(folder.resolve()):
            os.statvfs(mount)  # always reaches the server, never a cache
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
