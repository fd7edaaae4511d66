"""Where the settings want the file of a job that has ended."""

from pathlib import Path

from her2d.queue.job import Job, JobState
from her2d.settings import IntakeSettings

_SUCCESSES = (JobState.DONE, JobState.DUPLICATE)
_FAILURES = (JobState.QUARANTINED,)


def destination(job: Job, settings: IntakeSettings) -> Path | None:
    """Return the path to move the job's file to, or None if it stays in place.

    A file of a back-fill is in an archive already, and stays there. The file of a quarantined job
    is only moved out of an inbox. If a slide has a result and processing it again fails, its
    original stays in the archive.
    """
    if job.backfill_id is not None:
        return None
    in_inbox = job.inbox is not None and job.path.is_relative_to(job.inbox)
    if job.state in _SUCCESSES and settings.on_success == "move":
        folder = settings.archive
    elif job.state in _FAILURES and settings.on_failure == "move" and in_inbox:
        folder = settings.quarantine
    else:
        return None
    if job.path.is_relative_to(folder):
        return None
    if job.inbox is not None and in_inbox:
        return folder / job.path.relative_to(job.inbox)
    return folder / job.path.name


def states_to_archive(settings: IntakeSettings) -> tuple[JobState, ...]:
    """Return the end states whose files the settings move."""
    return (_SUCCESSES if settings.on_success == "move" else ()) + (
        _FAILURES if settings.on_failure == "move" else ()
    )
