"""Work on the inboxes: find and settle scans, and pause when the disk is nearly full."""

import errno
import math
import threading
import time
from pathlib import Path

from her2d.daemon.storage_probe import FolderProbe, StorageProbe
from her2d.intake.backfill_search import BackfillSearch
from her2d.intake.inbox import Inbox
from her2d.intake.settling import Completeness, Settledness, WhenOverdue
from her2d.intake.watcher import UnwatchableError, Watcher
from her2d.queue.store import JobQueue
from her2d.settings import Settings
from her2d.slides.formats.completeness import check_scan
from her2d.slides.formats.unread import explain_unread
from her2d.slides.integrity import Missing
from her2d.system.disk_space import least_free_mb, should_pause
from her2d.system.filesystems import needs_polling
from her2d.system.linux import inotify_watches
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_ANSWER_S = 1.0
_SPACE_EVERY_S = 5.0
_COUNT_AGAIN_S = 3600.0


class IntakeLoop:
    """Checks the inboxes, in passes of about a second at most."""

    def __init__(
        self,
        jobs: JobQueue,
        settings: Settings,
        wake: threading.Event,
        paused: threading.Event,
        storage: StorageProbe,
    ) -> None:
        self._jobs = jobs
        self._settings = settings
        self._paused = paused
        self._storage = storage
        self._hanging: frozenset[Path] = frozenset()
        self._slow: frozenset[Path] = frozenset()
        self._inbox = Inbox(jobs, settings.intake, check_slide, explain=explain_unread)
        self._backfills = BackfillSearch(jobs, settings.intake)
        self._watcher = Watcher(wake)
        self._next_check = 0.0
        self._eventless: set[Path] = set()
        self._too_large: dict[Path, float] = {}  # inbox -> when to count its folders again
        self._events_incomplete = False
        self._pause_reason: str | None = None
        # On a share that hangs, asking for free space would block the passes.
        self._space = FolderProbe(self._free_mb, _SPACE_EVERY_S)

    @property
    def problem(self) -> str | None:
        """Why scans are not found: a pause, or an inbox that does not answer; else None."""
        watched = self._settings.intake.inboxes
        hanging = [self._storage.problem(inbox) for inbox in watched if inbox in self._hanging]
        return self._pause_reason or next(filter(None, hanging), None)

    @property
    def forbidden(self) -> int:
        """How many files the daemon's user may not read."""
        return len(self._inbox.forbidden)

    @property
    def watch_restarts(self) -> int:
        """How often the inboxes' watches were made again because one of their threads had died."""
        return self._watcher.restarts

    @property
    def swept_s(self) -> float | None:
        """The seconds since all inboxes were last searched; None before that."""
        return self._inbox.sweeps.swept_s

    @property
    def examined_s(self) -> float | None:
        """The seconds since the file was examined for which that is longest ago; None before."""
        return self._inbox.sweeps.examined_s

    def close(self) -> None:
        self._watcher.stop()
        self._space.close()

    def apply(self, settings: Settings) -> None:
        """Continue with other settings."""
        self._settings = settings
        self._inbox.apply(settings.intake)
        self._backfills.apply(settings.intake)
        self._watcher.keep_only(settings.intake.inboxes)
        self._too_large.clear()
        self._next_check = 0.0

    def run_once(self) -> None:
        """Do one pass.

        Raises:
            sqlite3.Error: the database failed; the next pass does the rest.
        """
        self._check_storage()
        self._check_disk_space()
        if self._paused.is_set():
            return
        try:
            self._find_and_settle()
        except Exception:
            # The events are lost; a sweep finds their files.
            self._inbox.sweeps.request_full_sweep()
            raise

    def _find_and_settle(self) -> None:
        if time.monotonic() >= self._next_check:
            self._keep_watching()
            self._next_check = time.monotonic() + self._settings.intake.poll_s
        paths = self._watcher.take()
        if paths is None:
            log.warning("inbox_events_overflowed")
            self._inbox.sweeps.request_full_sweep()
        else:
            self._inbox.look_at(paths)
        self._inbox.sweep()
        self._check_watches()
        self._inbox.settle()
        # A folder that was asked for just now is probed first: if it hangs, so would this thread.
        unknown = {
            folder for folder in self._backfills.folders() if self._storage.status(folder) is None
        }
        self._backfills.run_once(self._slow | unknown)

    def _check_watches(self) -> None:
        """Poll the inboxes if the kernel watches fewer folders than there are.

        If the system's limit of watches is reached, only their number shows it. The numbers must
        differ twice in a row, because a folder may be created between the sweep and the count.
        """
        watched_folders = self._inbox.sweeps.watched_folders()
        if watched_folders is None:
            return
        events_incomplete = inotify_watches() < watched_folders
        if events_incomplete and self._events_incomplete:
            reason = OSError(errno.ENOSPC, "fewer folders are watched than there are")
            for inbox in self._settings.intake.inboxes:
                self._poll_instead(inbox, reason)
        self._events_incomplete = events_incomplete

    def _check_storage(self) -> None:
        """Leave out inboxes that do not answer, because waiting for one would delay the others."""
        intake = self._settings.intake
        watched = intake.inboxes
        if time.monotonic() >= self._next_check:
            others = self._jobs.inboxes() | self._backfills.folders()
            self._storage.apply({*watched, *others}, intake.archive_folders)
        self._slow = self._storage.slow(_ANSWER_S)
        hanging = self._storage.hanging()
        for inbox in hanging - self._hanging:
            log.error("inbox_not_answering", inbox=str(inbox))
        for inbox in (self._hanging - hanging) & set(watched):
            log.info("inbox_answers_again", inbox=str(inbox))
            self._next_check = 0.0
        self._hanging = hanging
        self._inbox.leave_out(hanging, self._slow)

    def _free_mb(self) -> float:
        """Return how much room there is for results; infinity if that cannot be found out."""
        results = self._settings.results
        try:
            return least_free_mb((results.database.parent, results.heatmaps))
        except OSError as error:
            log.warning("disk_unknown", reason=str(error))
            return math.inf

    def _check_disk_space(self) -> None:
        """Pause while results could not be stored: there is no room, or their storage hangs."""
        min_free_mb = self._settings.intake.min_free_mb
        free_mb = self._space.newest(_ANSWER_S)
        paused = self._paused.is_set()
        if free_mb is None:
            self._pause_reason = "Intake is paused: the storage of results does not answer."
            if not paused:
                log.error("results_storage_not_answering")
                self._paused.set()
        elif should_pause(free_mb, min_free_mb, paused=paused):
            self._pause_reason = f"Intake is paused: {free_mb:.0f} MB are free for results."
            if not paused:
                log.error("intake_paused", free_mb=round(free_mb), min_free_mb=min_free_mb)
                self._paused.set()
        elif paused:
            self._pause_reason = None
            log.info("intake_resumed", free_mb=None if free_mb == math.inf else round(free_mb))
            self._paused.clear()
            self._inbox.sweeps.request_full_sweep()

    def _keep_watching(self) -> None:
        if not self._watcher.check():
            self._inbox.sweeps.request_full_sweep()
        for inbox in self._settings.intake.inboxes:
            if inbox in self._hanging | self._slow:
                continue
            if time.monotonic() < self._too_large.get(inbox, 0.0):
                continue
            try:
                if needs_polling(inbox, self._settings.intake.watch):
                    self._watcher.forget(inbox)
                elif self._watcher.watch(inbox):
                    self._eventless.discard(inbox)
                    log.info("inbox_watched", inbox=str(inbox))
                    self._inbox.sweeps.request(inbox, inbox)
            except UnwatchableError as error:
                self._too_large[inbox] = time.monotonic() + _COUNT_AGAIN_S
                self._watcher.forget(inbox)
                self._poll_instead(inbox, error)
            except FileNotFoundError:
                self._watcher.forget(inbox)  # the sweep reports it, once
            except OSError as error:
                self._poll_instead(inbox, error)

    def _poll_instead(self, inbox: Path, error: OSError) -> None:
        if inbox not in self._eventless:
            self._eventless.add(inbox)
            log.warning("inbox_events_unavailable", inbox=str(inbox), reason=str(error))
        self._inbox.sweeps.poll(inbox)


_WHEN_OVERDUE = {
    Missing.ACCESS: WhenOverdue.WAIT,
    Missing.DIRECTORIES: WhenOverdue.QUARANTINE,
    Missing.BLOCKS: WhenOverdue.TAKE,
}


def check_slide(path: Path) -> Settledness:
    """Return the answer of `her2d.slides.formats` in the form that the inbox needs."""
    found = check_scan(path)
    completeness = Completeness(found.completeness.value)
    if found.missing is Missing.PERMISSION:
        return Settledness(Completeness.FORBIDDEN, found.reason)
    if found.missing is None:
        return Settledness(completeness, found.reason)
    return Settledness(completeness, found.reason, _WHEN_OVERDUE[found.missing])
