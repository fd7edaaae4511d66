"""Search the folders of back-fills once, and create the jobs of their scans.

It is done in short passes, as with inboxes. A search that a restart ends begins again, and passes
over what has a job already.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from her2d.intake.discovery import Found, ScanRules, walk
from her2d.queue.backfills import Backfill, Backfills
from her2d.queue.job import BACKFILL, JobState
from her2d.queue.store import JobQueue, problem_of_name, text_of
from her2d.settings import IntakeSettings
from her2d.slides.barcode_of_file import barcode_of_file
from her2d.system.file_identity import FileState
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_PASS_S = 0.25
_STEP_S = 0.05
_BATCH = 200
_AGAIN_S = 60.0


class BackfillSearch:
    """Searches one folder after the other; the caller drives it with `run_once`.

    Args:
        jobs: the queue.
        settings: what counts as a scan, and which folders are inboxes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        jobs: JobQueue,
        settings: IntakeSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._backfills = Backfills(jobs.database)
        self._settings = settings
        self._clock = clock
        self._search: _Search | None = None
        self._not_before: dict[int, float] = {}

    def apply(self, settings: IntakeSettings) -> None:
        """Continue with other settings; a search under way begins again."""
        self._settings = settings
        self._search = None

    def folders(self) -> set[Path]:
        """Return the folders that are to be searched."""
        return {backfill.folder for backfill in self._backfills.to_search()}

    def run_once(self, left_out: frozenset[Path]) -> None:
        """Search for at most a quarter of a second.

        Args:
            left_out: folders that do not answer, or are not probed yet; nothing of them is read.
        """
        end = time.monotonic() + _PASS_S
        wanted = {
            backfill.id: backfill
            for backfill in self._backfills.to_search()
            if backfill.folder not in left_out
            and self._clock() >= self._not_before.get(backfill.id, 0.0)
        }
        if self._search is not None and not self._search.is_of(wanted):
            self._search = None
        while wanted and time.monotonic() < end:
            search = self._search or self._begun(next(iter(wanted.values())))
            # If the database fails, the search begins again: it has passed over the scans at hand.
            self._search = None
            if self._step(search):
                self._search = search
            else:
                wanted.pop(search.backfill.id)

    def _begun(self, backfill: Backfill) -> "_Search":
        self._backfills.found(backfill, 0)
        return _Search(backfill, self._settings)

    def _step(self, search: "_Search") -> bool:
        """Search on; return False when the search has ended.

        Raises:
            sqlite3.Error: the database failed; the scans at hand have no jobs.
        """
        try:
            files = search.take(_BATCH)
        except OSError as error:
            self._refuse(search.backfill, error)
            return False
        if files:
            with self._jobs.transaction():
                for file in self._unknown(files):
                    self._create_job(search.backfill, file)
                self._backfills.found(search.backfill, search.files)
        if not search.has_ended:
            return True
        if not self._backfills.searched(search.backfill, search.files, search.problem):
            return False  # it was requested again meanwhile
        log.info("backfill_searched", folder=str(search.backfill.folder), files=search.files)
        return False

    def _refuse(self, backfill: Backfill, error: OSError) -> None:
        problem = f"{backfill.folder} cannot be searched: {error.strerror}."
        self._not_before[backfill.id] = self._clock() + _AGAIN_S
        if problem != backfill.problem:
            log.warning(
                "backfill_folder_unreadable", folder=str(backfill.folder), reason=error.strerror
            )
            self._backfills.cannot_search(backfill, problem)

    def _unknown(self, files: list[Found]) -> Iterator[Found]:
        names = [text_of(file.path_text) for file in files]
        newest = self._jobs.newest_of_each(names)
        for file, name in zip(files, names, strict=True):
            known = newest.get(name)
            if known is None or not self._jobs.is_known(known, FileState.from_stat(file.stat)):
                yield file

    def _create_job(self, backfill: Backfill, file: Found) -> None:
        state = FileState.from_stat(file.stat)
        if (reason := problem_of_name(file.path)) is not None:
            barcode = barcode_of_file(file.path)
            self._jobs.refuse(
                file.path,
                state,
                reason,
                inbox=file.inbox,
                barcode=barcode,
                backfill_id=backfill.id,
            )
            return
        job = self._jobs.discover(file.path, file.inbox, state, BACKFILL, backfill_id=backfill.id)
        # A file that may still be written settles first, as in an inbox.
        age_s = time.time() - max(file.stat.st_mtime, file.stat.st_ctime)
        is_settled = age_s > self._settings.incomplete_after_s
        if job is not None and job.state is JobState.SETTLING and is_settled:
            self._jobs.queue(job)


class _Search:
    """The search of one folder that is under way."""

    def __init__(self, backfill: Backfill, settings: IntakeSettings) -> None:
        self.backfill = backfill
        self.files = 0
        self.has_ended = False
        self._unreadable: list[Path] = []
        rules = ScanRules(
            settings.extensions,
            settings.ignore,
            (*settings.archive_folders, *settings.inboxes),  # the daemon has found what is there
            settings.sidecar.lower(),
        )
        self._steps = walk(
            backfill.folder,
            backfill.folder,
            rules,
            on_unreadable=lambda folder, _: self._unreadable.append(folder),
        )

    def is_of(self, wanted: Mapping[int, Backfill]) -> bool:
        """Return whether it goes on, and not from the start because it was requested again."""
        now = wanted.get(self.backfill.id)
        return now is not None and now.files == self.files

    @property
    def problem(self) -> str | None:
        """Why not all of the folder was searched; None if it was."""
        if not self._unreadable:
            return None
        number = len(self._unreadable)
        many = "1 folder" if number == 1 else f"{number} folders, among them"
        return (
            f"{many} {self._unreadable[0]} could not be read. Let the daemon's user read it, and"
            " give the command again."
        )

    def take(self, most: int) -> list[Found]:
        """Return further scans, hardly more than `most`, after a moment at the latest.

        Raises:
            OSError: the folder itself cannot be read.
        """
        files: list[Found] = []
        until = time.monotonic() + _STEP_S
        for some in self._steps:
            files += some
            if len(files) >= most or time.monotonic() >= until:
                break
        else:
            self.has_ended = True
        self.files += len(files)
        return files
