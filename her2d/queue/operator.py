"""What people do to the queue: `her2d queue retry|cancel|priority|reprocess|forget`."""

import os

from her2d.errors import Her2dError
from her2d.queue.job import BACKFILL, Job, JobState
from her2d.queue.store import JobQueue
from her2d.system.clock import now

_STOPPED = (JobState.FAILED, JobState.QUARANTINED, JobState.DUPLICATE, JobState.VANISHED)
_TO_FORGET = (JobState.QUARANTINED, JobState.DUPLICATE)
_WAITING = (JobState.SETTLING, JobState.QUEUED, JobState.FAILED)

# Jobs that have a result, unless the bundle has a run for their slide.
_TO_REPROCESS = """
    select jobs.* from jobs
    where jobs.state = 'done'
      and (:job is null or jobs.id = :job)
      and not exists (select 1 from runs join bundles on bundles.id = runs.bundle_id
                      where runs.slide_id = jobs.slide_id and bundles.digest = :bundle)
    order by jobs.id
"""


class RefusedByQueue(Her2dError):  # noqa: N818  reads as what it says
    """The queue cannot do that to the job; the sentence says why."""


def retry(jobs: JobQueue, job_id: int) -> Job:
    """Queue a job that stopped without a result; it is found where it was filed. Raises
    RefusedByQueue."""
    job = _job(jobs, job_id)
    if job.state not in _STOPPED:
        raise RefusedByQueue(f"Job {job_id} has not stopped without a result: it is {job.state}.")
    if (newest := _newer_of_same_file(jobs, job)) is not None:
        raise RefusedByQueue(f"Job {newest.id} is a newer job of the same file.")
    fields = {
        "path": str(job.whereabouts),
        "archived_path": None,
        "archived_at": None,
        "reason": None,
        "not_before": None,
        "finished_at": None,
        "attempts": 0,
        "interruptions": 0,
        "queued_at": now(),
    }
    if not jobs.move(job, JobState.QUEUED, fields):
        raise RefusedByQueue(f"Job {job_id} was just changed by somebody else.")
    return jobs.get(job_id)


def cancel(jobs: JobQueue, job_id: int) -> Job:
    """Quarantine a job that waits. Raises RefusedByQueue."""
    job = _job(jobs, job_id)
    if job.state not in _WAITING or not jobs.quarantine(job, "Cancelled by hand."):
        raise RefusedByQueue(f"Job {job_id} is not waiting any more: it is {job.state}.")
    return jobs.get(job_id)


def forget(jobs: JobQueue, job_id: int) -> Job:
    """Have a stopped job count as that of a file which was removed: nobody need look at it again.

    Its row and its events stay, and so does every result. Were the file found again, the job would
    go on.

    Raises:
        RefusedByQueue: it has not stopped without a result, its file is being moved, or would be
            found by the next sweep.
    """
    job = _job(jobs, job_id)
    if job.state not in _TO_FORGET:
        raise RefusedByQueue(f"Job {job_id} is {job.state}, which needs no forgetting.")
    if job.archived_path is not None and job.archived_at is None:
        raise RefusedByQueue(f"The file of job {job_id} is on its way to {job.archived_path}.")
    in_place = job.whereabouts == job.path and _newer_of_same_file(jobs, job) is None
    if in_place and os.path.lexists(job.path):
        raise RefusedByQueue(
            f"{job.path} is still there and would be found again: move it away first, or try it"
            f" once more with her2d queue retry {job_id}."
        )
    fields = {"reason": f"Forgotten by hand. {job.reason or ''}".rstrip()}
    if not jobs.move(job, JobState.VANISHED, fields, event="forgotten"):
        raise RefusedByQueue(f"Job {job_id} was just changed by somebody else.")
    return jobs.get(job_id)


def prioritise(jobs: JobQueue, job_id: int, priority: int) -> Job:
    """Give a waiting job another priority: higher runs first, 0 is a new scan's. Raises
    RefusedByQueue."""
    job = _job(jobs, job_id)
    if job.state not in _WAITING or not jobs.move(job, job.state, {"priority": priority}):
        raise RefusedByQueue(f"Job {job_id} is not waiting: it is {job.state}.")
    return jobs.get(job_id)


def reprocess(jobs: JobQueue, bundle_digest: str, job_id: int | None = None) -> list[Job]:
    """Queue slides that have a result, but none by the bundle, once more, after new scans.

    The old runs stay: results are append-only. Returns the new jobs, none for slides whose bundle
    result is there already, or whose file has a newer job where it lies now.

    Args:
        bundle_digest: of the bundle that serves.
        job_id: only this finished job; None means all.

    Raises:
        RefusedByQueue: there is no such job, or it has no result.
    """
    if job_id is not None and (job := _job(jobs, job_id)).state is not JobState.DONE:
        raise RefusedByQueue(f"Job {job_id} has no result to be made once more: it is {job.state}.")
    found = jobs.database.query(_TO_REPROCESS, {"job": job_id, "bundle": bundle_digest})
    with jobs.together():
        return [
            jobs.once_more(job, priority=BACKFILL)
            for job in map(Job.of, list(found))
            if _newer_of_same_file(jobs, job) is None
        ]


def _newer_of_same_file(jobs: JobQueue, job: Job) -> Job | None:
    """Its newer job, by where the file is now: another scan may have the name it was found by."""
    newest = jobs.newest_of(job.whereabouts)
    return newest if newest is not None and newest.id > job.id else None


def _job(jobs: JobQueue, job_id: int) -> Job:
    try:
        return jobs.get(job_id)
    except KeyError as error:
        raise RefusedByQueue(f"There is no job {job_id}; see her2d queue ls.") from error
