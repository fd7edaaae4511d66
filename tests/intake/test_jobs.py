"""The durable queue."""

import threading
from pathlib import Path

import pytest

from her2d.database import open_database
from her2d.intake import FileState, JobQueue, JobState


def queued(jobs, name="a.tif"):
    job = jobs.discover(Path("/inbox") / name, Path("/inbox"), FileState(1, 10, 20))
    jobs.queue(job.id)
    return jobs.get(job.id)


def test_a_claimed_job_is_nobody_elses(jobs):
    job = queued(jobs)
    assert jobs.claim().id == job.id
    assert jobs.claim() is None


def test_jobs_are_claimed_in_the_order_they_were_found(jobs):
    for name in ("a.tif", "b.tif", "c.tif"):
        queued(jobs, name)
    assert [jobs.claim().path.name for _ in range(3)] == ["a.tif", "b.tif", "c.tif"]


def test_two_workers_never_claim_the_same_job(jobs, tmp_path):
    for number in range(60):
        queued(jobs, f"{number}.tif")
    claimed: list[int] = []

    def work() -> None:
        db = open_database(tmp_path / "her2d.sqlite")
        while job := JobQueue(db).claim():
            claimed.append(job.id)
        db.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted({job.id for job in jobs.in_state()})


def test_a_failed_job_waits_before_it_is_tried_again(jobs):
    queued(jobs)
    job = jobs.claim()
    assert jobs.retry_later(job, "The engine failed.", max_attempts=3) is JobState.FAILED
    assert jobs.claim() is None
    assert jobs.get(job.id).reason == "The engine failed."


def test_the_last_attempt_ends_in_quarantine(jobs):
    queued(jobs)
    job = jobs.claim()
    assert jobs.retry_later(job, "It failed.", max_attempts=1) is JobState.QUARANTINED
    assert jobs.get(job.id).reason == "It failed. Given up after 1 attempts."


def test_jobs_a_daemon_died_on_are_queued_again(jobs):
    queued(jobs)
    job = jobs.claim()
    assert jobs.recover() == 1
    assert jobs.claim().id == job.id


def test_a_job_given_back_at_a_stop_costs_no_attempt(jobs):
    queued(jobs)
    jobs.give_back(jobs.claim().id)
    assert jobs.claim().attempts == 1


def test_a_refused_file_is_recorded_with_its_reason(jobs):
    job = jobs.refuse(Path("/scans/a.tif"), FileState(1, 10, 20), "It is a PNG.")
    assert (job.state, job.reason) == (JobState.QUARANTINED, "It is a PNG.")


def test_every_change_of_state_leaves_an_event(jobs):
    job = queued(jobs)
    jobs.claim()
    jobs.quarantine(job.id, "No.")
    rows = jobs.database.query(
        "select name, detail from events where job_id = ? order by id", [job.id]
    )
    assert [(row["name"], row["detail"]) for row in rows] == [
        ("discovered", None),
        ("queued", None),
        ("running", None),
        ("quarantined", "No."),
    ]


def test_counts_name_every_state(jobs):
    queued(jobs)
    counts = jobs.counts()
    assert set(counts) == set(JobState)
    assert counts[JobState.QUEUED] == 1


def test_an_unknown_job_is_a_key_error(jobs):
    with pytest.raises(KeyError):
        jobs.get(17)
