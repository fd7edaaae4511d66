"""Commands by which an operator changes the queue."""

from pathlib import Path

import pytest

from her2d.queue.job import BACKFILL, Job, JobState
from her2d.queue.operator import (
    RefusedByQueue,
    cancel,
    forget,
    prioritise,
    reprocess,
    retry,
)
from her2d.system.file_identity import FileState


@pytest.fixture
def job(jobs):
    """A queued job."""
    found = jobs.discover(Path("/inbox/a.tif"), Path("/inbox"), FileState(1, 10, 20))
    jobs.queue(found)
    return jobs.get(found.id)


def test_a_quarantined_file_can_be_retried_with_all_its_attempts(jobs, job):
    jobs.quarantine(jobs.claim(), "No.")
    retry(jobs, job.id)
    assert jobs.claim().attempts == 1


def test_a_file_that_is_retried_or_found_again_may_be_readable_on_every_machine(jobs, job):
    def unreadable() -> Job:
        claimed = jobs.claim()
        jobs.note_unreadable_on(claimed, "alpha")
        return claimed

    jobs.quarantine(unreadable(), "It cannot be read.")
    assert jobs.get(job.id).unreadable_on == ("alpha",)
    assert retry(jobs, job.id).unreadable_on == ()
    jobs.mark_vanished(unreadable())
    found = jobs.discover(job.path, Path("/inbox"), FileState(2, 10, 20))
    assert found.unreadable_on == ()


def test_a_running_job_is_not_retried(jobs, job):
    jobs.claim()
    with pytest.raises(RefusedByQueue, match=r"did not stop without a result\. It is running"):
        retry(jobs, job.id)


def test_a_job_with_a_newer_job_of_the_same_file_is_not_retried(jobs, job):
    jobs.quarantine(job, "No.")
    newer = jobs.discover(job.path, job.inbox, FileState(1, 11, 21))
    with pytest.raises(RefusedByQueue, match=f"Job {newer.id} is a newer job of the same file"):
        retry(jobs, job.id)


def test_an_archived_file_is_retried_in_the_archive(jobs, job):
    jobs.quarantine(job, "No.")
    jobs.database.execute("update jobs set archived_path = '/q/a.tif', archived_at = 'x'")
    assert retry(jobs, job.id).path == Path("/q/a.tif")


def test_a_missing_file_is_forgotten_and_its_history_stays(jobs, job):
    jobs.quarantine(job, "No magnification.")
    events = list(jobs.database.query("select * from events"))
    forgotten = forget(jobs, job.id)
    assert (forgotten.state, forgotten.reason) == (
        JobState.VANISHED,
        "Forgotten by an operator. No magnification.",
    )
    *before, last = jobs.database.query("select * from events")
    assert before == events
    assert (last["job_id"], last["name"]) == (job.id, "forgotten")


def test_a_file_that_would_be_found_again_is_not_forgotten(jobs, tmp_path):
    path = tmp_path / "a.tif"
    path.touch()
    job = jobs.refuse(path, FileState(1, 10, 20), "No.", inbox=tmp_path)
    with pytest.raises(RefusedByQueue, match=f"would be found again.*queue retry {job.id}"):
        forget(jobs, job.id)
    assert jobs.get(job.id).state is JobState.QUARANTINED


def test_a_file_that_was_replaced_is_forgotten_and_its_replacement_is_not(jobs, tmp_path):
    path = tmp_path / "a.tif"
    path.touch()
    job = jobs.refuse(path, FileState(1, 10, 20), "No.", inbox=tmp_path)
    newer = jobs.discover(path, tmp_path, FileState(2, 11, 21))
    forget(jobs, job.id)
    assert jobs.get(job.id).state is JobState.VANISHED
    assert jobs.get(newer.id) == newer


def test_a_file_in_the_quarantine_folder_can_be_forgotten(jobs, tmp_path):
    path = tmp_path / "a.tif"
    job = jobs.refuse(path, FileState(1, 10, 20), "No.", inbox=tmp_path)
    path.touch()
    jobs.database.execute("update jobs set archived_path = '/q/a.tif', archived_at = 'x'")
    assert forget(jobs, job.id).state is JobState.VANISHED


def test_a_file_that_is_being_moved_is_not_forgotten(jobs, job):
    jobs.quarantine(job, "No.")
    jobs.database.execute("update jobs set archived_path = '/q/a.tif'")
    with pytest.raises(RefusedByQueue, match=r"is being moved to /q/a\.tif"):
        forget(jobs, job.id)


@pytest.mark.parametrize("state", ["settling", "queued", "running", "failed", "done", "vanished"])
def test_only_a_job_that_ended_without_a_result_can_be_forgotten(jobs, job, state):
    jobs.database.execute("update jobs set state = ?", [state])
    with pytest.raises(RefusedByQueue, match=f"is {state}. Only quarantined"):
        forget(jobs, job.id)


def test_a_forgotten_file_that_exists_again_continues_its_job(jobs, job):
    jobs.quarantine(job, "No.")
    forget(jobs, job.id)
    again = jobs.discover(job.path, job.inbox, FileState(1, 10, 20))
    assert (again.id, again.state) == (job.id, JobState.SETTLING)


def test_a_new_scan_with_the_name_of_a_forgotten_file_starts_without_its_counts(jobs, job):
    jobs.quarantine(job, "No.")
    jobs.database.execute(
        "update jobs set archived_path = '/quarantine/a.tif', archived_at = 'then', attempts = 3,"
        " interruptions = 10, not_before = 'later' where id = ?",
        [job.id],
    )
    forget(jobs, job.id)
    again = jobs.discover(job.path, job.inbox, FileState(2, 11, 21))
    assert again.whereabouts == job.path
    assert (again.archived_path, again.archived_at) == (None, None)
    assert (again.attempts, again.interruptions) == (0, 0)


def test_a_job_without_a_result_is_not_reprocessed(jobs, job):
    with pytest.raises(RefusedByQueue, match=r"has no result yet\. It is queued"):
        reprocess(jobs, "digest", job.id)


def test_a_job_that_does_not_exist_is_not_reprocessed(jobs):
    with pytest.raises(RefusedByQueue, match="There is no job 999; see her2d queue ls"):
        reprocess(jobs, "digest", 999)


def test_a_waiting_job_can_be_cancelled(jobs, job):
    cancelled = cancel(jobs, job.id)
    assert (cancelled.state, cancelled.reason) == (
        JobState.CANCELLED,
        "Cancelled by an operator.",
    )


def test_a_cancelled_job_is_its_own_event_and_not_a_quarantine(jobs, job):
    cancel(jobs, job.id)
    events = [row["name"] for row in jobs.database.query("select name from events")]
    assert events[-1] == "cancelled"
    assert "quarantined" not in events


def test_a_sweep_does_not_queue_a_cancelled_file_again_until_it_changes(jobs, job):
    cancel(jobs, job.id)
    same, changed = FileState(job.inode, job.size, job.mtime_ns), FileState(job.inode, 11, 21)
    assert jobs.discover(job.path, job.inbox, same) is None
    assert jobs.discover(job.path, job.inbox, changed).state is JobState.SETTLING


def test_a_cancelled_job_can_be_retried(jobs, job):
    cancel(jobs, job.id)
    assert retry(jobs, job.id).state is JobState.QUEUED


def test_a_running_job_cannot_be_cancelled(jobs, job):
    jobs.claim()
    with pytest.raises(RefusedByQueue, match=r"is not waiting\. It is running"):
        cancel(jobs, job.id)


def test_a_job_with_a_higher_priority_is_claimed_first(jobs, job):
    later = jobs.discover(Path("/inbox/b.tif"), Path("/inbox"), FileState(1, 10, 20))
    jobs.queue(later)
    prioritise(jobs, later.id, 5)
    assert jobs.claim().id == later.id


def test_the_error_for_an_unknown_job_says_that_it_does_not_exist(jobs):
    with pytest.raises(RefusedByQueue, match="There is no job 99"):
        retry(jobs, 99)


def done(jobs, job, slide_id=1):
    """End a job with a result, as `her2d.results` does."""
    db = jobs.database
    db.execute(
        "insert into slides (id, content_hash, file_name, path, vendor, width, height,"
        " magnification, mpp, first_seen_at)"
        " values (?, ?, 'a.tif', '/a.tif', 'motic', 1, 1, 4, 2.5, '')",
        [slide_id, f"hash {slide_id}"],
    )
    db.execute("insert or ignore into bundles values (1, 'old', 'b', '1', '{}', '')")
    db.execute(
        "insert into runs (slide_id, bundle_id, her2_status, borderline, threshold_percent,"
        " tile_cut, tumor_pixels, strong_pixels, tiles_total, tiles_tissue, tiles_tumor,"
        " tiles_strong, tiles_unreadable, grid_columns, grid_rows, um_per_px, level0_downsample,"
        " backend, precision, runtime, runtime_version, scikit_learn_version, software_version,"
        " started_at, finished_at, elapsed_s) values (?, 1, 'negative', 0, 10, 0.5, 1, 0, 1, 1,"
        " 1, 0, 0, 1, 1, 2.5, 10, 'cpu', 'fp32', 'cpu', '1', '1', '0', '', '', 0)",
        [slide_id],
    )
    jobs.move(job, JobState.DONE, {"slide_id": slide_id})


def test_a_finished_slide_is_reprocessed_with_another_bundle_after_new_scans(jobs, job):
    done(jobs, job)
    (again,) = reprocess(jobs, "new")
    assert (again.path, again.state, again.priority) == (job.path, JobState.QUEUED, BACKFILL)
    assert jobs.get(job.id).state is JobState.DONE


def test_a_slide_with_a_result_of_the_bundle_is_not_reprocessed(jobs, job):
    done(jobs, job)
    assert reprocess(jobs, "old") == []


def test_reprocessing_twice_queues_a_slide_once(jobs, job):
    done(jobs, job)
    assert len(reprocess(jobs, "new")) == 1
    assert reprocess(jobs, "new") == []


def archived(jobs, job, place: str) -> None:
    """Store what the archiver stores after it moved the file of a job."""
    jobs.database.execute(
        "update jobs set archived_path = ?, archived_at = 'x' where id = ?", [place, job.id]
    )


def test_an_archived_slide_is_reprocessed_once_and_in_the_archive(jobs, job):
    done(jobs, job)
    archived(jobs, job, "/archive/a.tif")
    (again,) = reprocess(jobs, "new")
    assert again.path == Path("/archive/a.tif")
    assert reprocess(jobs, "new") == []


def test_an_archived_slide_whose_inbox_path_has_another_scan_is_reprocessed(jobs, job):
    done(jobs, job)
    archived(jobs, job, "/archive/a.tif")
    jobs.discover(job.path, job.inbox, FileState(2, 11, 21))
    (again,) = reprocess(jobs, "new")
    assert again.path == Path("/archive/a.tif")


def test_two_jobs_of_one_archived_file_are_reprocessed_as_one(jobs, job):
    done(jobs, job)
    twin = jobs.discover(Path("/inbox/b.tif"), Path("/inbox"), FileState(2, 10, 20))
    jobs.move(twin, JobState.DONE, {"slide_id": 1})
    for one in (job, twin):
        archived(jobs, one, "/archive/a.tif")
    assert len(reprocess(jobs, "new")) == 1
