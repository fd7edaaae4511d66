"""Operators' changes to the queue: `her2d queue retry|cancel|priority|reprocess|forget`."""

import os
from collections.abc import Callable
from pathlib import Path

from her2d.errors import Her2dError
from her2d.queue.job import BACKFILL, Job, JobState
from her2d.queue.store import JobQueue
from her2d.system.clock import now

_TO_FORGET = (JobState.QUARANTINED, JobState.CANCELLED, JobState.DUPLICATE)
_STOPPED = (JobState.FAILED, *_TO_FORGET, JobState.VANISHED)
_WAITING = (JobState.SETTLING, JobState.QUEUED, JobState.FAILED)

# Jobs that have a result, without those whose slide the bundle has scored.
_TO_REPROCESS = """
    select jobs.* from jobs
    where jobs.state = 'done'
      and (:job is null or jobs.id = :job)
      and not exists (select 1 from runs join bundles on bundles.id = runs.bundle_id
                      where runs.slide_id = jobs.slide_id and bundles.digest = :bundle)
    order by jobs.id
"""


class RefusedByQueue(Her2dError):  # noqa: N818  reads as what it says
    """The job cannot be changed in that way; `str(error)` is one sentence that says why."""


def retry(jobs: JobQueue, job_id: int) -> Job:
    """Queue a job that stopped without a result; its file is read from its present place.

    Raises:
        RefusedByQueue: there is no such job, it did not stop without a result, or the file has a
            newer job.
    """
    job = _job(jobs, job_id)
    if job.state not in _STOPPED:
        raise RefusedByQueue(f"Job {job_id} did not stop without a result. It is {job.state}.")
    if (newest := _newer_of_same_file(jobs, job)) is not None:
        raise RefusedByQueue(f"Job {newest.id} is a newer job of the same file.")
    fields = {
        "path": str(job.whereabouts),
        "archived_path": None,
        "archived_at": None,
        "reason": None,
        "barcode": None,
        "not_before": None,
        "finished_at": None,
        "attempts": 0,
        "interruptions": 0,
        "unforeseen": 0,
        "unreadable_on": "[]",
        "ctime_ns": 0,  # it may have been moved or given other permissions since
        "queued_at": now(),
    }
    if not jobs.move(job, JobState.QUEUED, fields):
        raise RefusedByQueue(f"Job {job_id} was just changed by another process.")
    return jobs.get(job_id)


def cancel(
    jobs: JobQueue, job_id: int, *, barcode_of: Callable[[Path], str | None] = lambda _: None
) -> Job:
    """Cancel a waiting job. Its file stays where it is.

    Args:
        jobs: the queue.
        job_id: the job.
        barcode_of: reads the barcode of a file, for the event.

    Raises:
        RefusedByQueue: there is no such job, or it is not waiting.
    """
    job = _job(jobs, job_id)
    if job.state not in _WAITING or not jobs.cancel(
        job, "Cancelled by an operator.", barcode=barcode_of(job.whereabouts)
    ):
        raise RefusedByQueue(f"Job {job_id} is not waiting. It is {job.state}.")
    return jobs.get(job_id)


def forget(jobs: JobQueue, job_id: int) -> Job:
    """Mark a stopped job as one whose file was removed, so that it needs no more attention.

    The job's row, its events and all results stay. If the file is found again, the job continues.

    Raises:
        RefusedByQueue: there is no such job, it did not stop without a result, its file is being
            moved, or the next sweep would find its file.
    """
    job = _job(jobs, job_id)
    if job.state not in _TO_FORGET:
        raise RefusedByQueue(
            f"Job {job_id} is {job.state}. Only quarantined, cancelled and duplicate jobs can be"
            " forgotten."
        )
    if job.archived_path is not None and job.archived_at is None:
        raise RefusedByQueue(f"The file of job {job_id} is being moved to {job.archived_path}.")
    in_place = job.whereabouts == job.path and _newer_of_same_file(jobs, job) is None
    if in_place and os.path.lexists(job.path):
        raise RefusedByQueue(
            f"{job.path} still exists and would be found again. Move it away first, or run her2d"
            f" queue retry {job_id}."
        )
    fields = {"reason": f"Forgotten by an operator. {job.reason or ''}".rstrip()}
    if not jobs.move(job, JobState.VANISHED, fields, event="forgotten"):
        raise RefusedByQueue(f"Job {job_id} was just changed by another process.")
    return jobs.get(job_id)


def prioritise(jobs: JobQueue, job_id: int, priority: int) -> Job:
    """Change the priority of a waiting job.

    Args:
        jobs: the queue.
        job_id: the job.
        priority: jobs with a higher one run first; new scans have 0.

    Raises:
        RefusedByQueue: there is no such job, or it is not waiting.
    """
    job = _job(jobs, job_id)
    if job.state not in _WAITING or not jobs.move(
        job,
        job.state,
        {"priority": priority},
        event="reprioritised",
        detail=f"{job.priority} -> {priority}",
    ):
        raise RefusedByQueue(f"Job {job_id} is not waiting. It is {job.state}.")
    return jobs.get(job_id)


def reprocess(jobs: JobQueue, bundle_digest: str, job_id: int | None = None) -> list[Job]:
    """Queue slides again that have a result, but none by the current bundle.

    They run after new scans. The old runs stay, because results are only added.

    Args:
        jobs: the queue.
        bundle_digest: the digest of the current bundle.
        job_id: only this finished job; None for all.

    Returns:
        The new jobs. A slide that has a result by the bundle, or whose file has a newer job, does
        not get one.

    Raises:
        RefusedByQueue: there is no such job, or it has no result.
    """
    if job_id is not None and (job := _job(jobs, job_id)).state is not JobState.DONE:
        raise RefusedByQueue(f"Job {job_id} has no result yet. It is {job.state}.")
    found = jobs.database.query(_TO_REPROCESS, {"job": job_id, "bundle": bundle_digest})
    with jobs.transaction():
        return [
            jobs.queue_again(job, priority=BACKFILL)
            for job in map(Job.of, list(found))
            if _newer_of_same_file(jobs, job) is None
        ]


def _newer_of_same_file(jobs: JobQueue, job: Job) -> Job | None:
    """Return a newer job for the file's present path; the old path may hold another scan."""
    newest = jobs.newest_of(job.whereabouts)
    return newest if newest is not None and newest.id > job.id else None


def _job(jobs: JobQueue, job_id: int) -> Job:
    try:
        return jobs.get(job_id)
    except KeyError as error:
        raise RefusedByQueue(f"There is no job {job_id}; see her2d queue ls.") from error
