"""Name the files in the inboxes that nothing reads, each once.

A file is named when it has not changed for `settle_s`, so that one which is copied under another
name first is not. Its job has the state `unread` and is never archived. When the file is removed,
ignored or becomes a scan, the job goes on from there.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from her2d.intake.discovery import Found, ScanRules
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue, text_of
from her2d.settings import IntakeSettings
from her2d.system.file_identity import FileState
from her2d.system.loggers import get_logger

log = get_logger(__name__)

MOST_NAMED = 1000  # an inbox with more is not an inbox
_MOST_WATCHED = 10_000
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")  # as `text_of` writes it


class Reason(Protocol):
    """Why a file is not read.

    Attributes:
        path: the file, or the folder that is one scan together with it.
        reason: one sentence.
    """

    @property
    def path(self) -> Path: ...
    @property
    def reason(self) -> str: ...


Explain = Callable[[Path], Reason | None]
"""Says why a file is not read, or None if it is part of a scan. Raises OSError."""


class UnreadFiles:
    """The files that are not taken as scans; used by the thread that searches the inboxes.

    Args:
        jobs: the queue.
        settings: what counts as a scan, and how long a file must be unchanged.
        explain: why a file is not read.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        jobs: JobQueue,
        settings: IntakeSettings,
        explain: Explain,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._explain = explain
        self._clock = clock
        self._seen: dict[Path, tuple[FileState, float]] = {}
        self._met: set[Path] = set()  # since the last check
        self._settled: set[Path] = set()  # since the last check
        self._next_check = float("-inf")
        self._is_full = False
        self.apply(settings)

    def apply(self, settings: IntakeSettings) -> None:
        """Continue with other settings."""
        self._settings = settings
        self._rules = ScanRules.of(settings)
        self._seen.clear()
        self._settled.clear()
        self._next_check = float("-inf")

    def look_at(self, files: Iterable[Found]) -> None:
        """Name those of the files that are unchanged for `settle_s` and not named yet."""
        now = self._clock()
        for file in files:
            if file.path in self._settled:
                continue
            self._met.add(file.path)
            state = FileState.from_stat(file.stat)
            seen, since = self._seen.get(file.path, (None, now))
            if seen != state:
                if len(self._seen) < _MOST_WATCHED:
                    self._seen[file.path] = (state, now)
            elif now - since >= self._settings.settle_s:
                self._seen.pop(file.path)
                self._name(file, state)

    def check(self, left_out: frozenset[Path]) -> None:
        """Every second sweep, take files off the list that were removed or are ignored now.

        Args:
            left_out: inboxes that are not accessed.
        """
        now = self._clock()
        if now < self._next_check:
            return
        self._next_check = now + 2 * self._settings.sweep_s
        for job in self._jobs.in_state(JobState.UNREAD):
            if job.inbox is None or job.inbox in left_out:
                continue
            if not self._passes_over(job.path, job.inbox) or not _exists(job.path):
                self._jobs.mark_vanished(job)
        self._seen = {path: self._seen[path] for path in self._seen if path in self._met}
        self._met.clear()
        self._settled.clear()

    def _passes_over(self, path: Path, inbox: Path) -> bool:
        """Return whether a sweep finds the file or folder and does not take it as a scan."""
        if inbox not in self._settings.inboxes or not path.is_relative_to(inbox):
            return False
        return self._rules.reaches(path, inbox) and self._rules.passes_over(path.name)

    def _name(self, file: Found, state: FileState) -> None:
        if self._known(file.path):
            self._settled.add(file.path)
            return
        try:
            found = self._explain(file.path)
        except OSError as error:
            log.debug("inbox_file_not_examined", file=text_of(file.path), reason=error.strerror)
            return  # it is looked at again
        self._settled.add(file.path)
        if found is None or (found.path != file.path and self._known(found.path)):
            return
        if len(self._jobs.ids_in(JobState.UNREAD)) >= MOST_NAMED:
            if not self._is_full:
                self._is_full = True
                log.warning("inbox_files_unread_not_listed", most=MOST_NAMED)
            return
        job = self._jobs.name_unread(found.path, file.inbox, state, found.reason)
        log.warning("inbox_file_unread", job_id=job.id, file=job.path.name, reason=found.reason)

    def _known(self, path: Path) -> bool:
        job = self._jobs.newest_of(path)
        return job is not None and job.state is not JobState.VANISHED


def _exists(stored: Path) -> bool:
    """Return whether there is a file; `\\xff` in a stored path may be a byte that is not UTF-8."""
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(stored))
    return os.path.lexists(stored) or os.path.lexists(raw)
