"""Back-fills: their pause, their turns and what is said of their progress."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from her2d.queue.backfills import Backfills
from her2d.queue.job import BACKFILL, JobState
from her2d.system.clock import as_text
from her2d.system.file_identity import FileState

STATE = FileState(1, 10, 20)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def backfills(jobs) -> Backfills:
    return Backfills(jobs.database)


def requested(backfills, jobs, folder, slides, *, since=NOW - timedelta(days=9)):
    """Return a back-fill whose folder was searched, with queued slides."""
    found = backfills.request(Path(folder), "alice")
    for number in range(slides):
        job = jobs.discover(
            Path(folder) / f"{number}.tif", Path(folder), STATE, BACKFILL, backfill_id=found.id
        )
        jobs.queue(job)
    backfills.found(found, slides)
    backfills.searched(found, slides, None)
    jobs.database.execute(
        "update backfills set requested_at = ? where id = ?", [as_text(since), found.id]
    )
    return backfills.all()[-1]


def end(jobs, number, *, at=NOW, every=timedelta(0)):
    """Let `number` slides end, the last one `at` a time and the others at intervals before."""
    for index in range(number):
        jobs.move(jobs.claim(), JobState.DONE, {"finished_at": as_text(at - every * index)})


def names(jobs):
    return [str(job.path) for job in iter(jobs.claim, None)]


def test_a_paused_back_fill_is_not_claimed_and_goes_on_when_it_is_resumed(backfills, jobs):
    first = requested(backfills, jobs, "/old/a", 2)
    requested(backfills, jobs, "/old/b", 1)
    backfills.pause(first, "alice")
    assert names(jobs) == ["/old/b/0.tif"]
    assert Backfills(jobs.database).all()[0].paused_at is not None
    backfills.resume(first, "alice")
    assert names(jobs) == ["/old/a/0.tif", "/old/a/1.tif"]


def test_a_pause_does_not_touch_new_scans_of_an_inbox_with_the_same_folder(backfills, jobs):
    backfills.pause(requested(backfills, jobs, "/old", 1), "alice")
    jobs.queue(jobs.discover(Path("/old/new.tif"), Path("/old"), STATE))
    assert names(jobs) == ["/old/new.tif"]


def test_back_fills_take_turns_after_all_new_scans(backfills, jobs):
    requested(backfills, jobs, "/old/a", 3)
    requested(backfills, jobs, "/old/b", 1)
    jobs.queue(jobs.discover(Path("/in/new.tif"), Path("/in"), STATE))
    assert names(jobs) == [
        "/in/new.tif",
        "/old/a/0.tif",
        "/old/b/0.tif",
        "/old/a/1.tif",
        "/old/a/2.tif",
    ]


def test_what_persons_did_to_a_back_fill_is_recorded(backfills, jobs):
    found = requested(backfills, jobs, "/old", 1)
    backfills.pause(found, "bob")
    backfills.resume(found, "carol")
    rows = jobs.database.execute(
        "select name, detail, actor from events where actor is not null order by id"
    )
    assert list(rows) == [
        ("backfill_requested", "/old", "alice"),
        ("backfill_paused", "/old", "bob"),
        ("backfill_resumed", "/old", "carol"),
    ]


def test_the_time_that_is_left_is_measured(backfills, jobs):
    found = requested(backfills, jobs, "/old", 140)
    end(jobs, 40, every=timedelta(minutes=1))
    progress = backfills.progress(found, NOW)
    assert (progress.ended, progress.left) == (40, 100)
    assert progress.per_hour == 40
    assert progress.left_s == 100 / 40 * 3600


def test_a_rate_of_few_slides_an_hour_is_measured_over_a_day(backfills, jobs):
    found = requested(backfills, jobs, "/old", 40)
    end(jobs, 24, every=timedelta(hours=1) * 0.999)
    assert backfills.progress(found, NOW).per_hour == pytest.approx(1)


def test_the_rate_of_a_fast_back_fill_is_that_of_its_newest_thousand_slides(backfills, jobs):
    """As of one whose files are known already: tens of thousands end in an hour."""
    found = requested(backfills, jobs, "/old", 1)
    ends = [NOW - timedelta(seconds=number) for number in range(1500)]
    ends += [ends[-1] - timedelta(seconds=10 * number) for number in range(100)]
    jobs.database.conn.executemany(
        "insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at,"
        " finished_at, backfill_id) values (?, 'x', '/old', 'duplicate', 1, 1, 't', ?, ?)",
        [(f"/old/n{index}.tif", as_text(at), found.id) for index, at in enumerate(ends)],
    )
    progress = backfills.progress(found, NOW)
    assert (progress.ended, progress.left) == (1600, 1)
    assert progress.per_hour == pytest.approx(3600, rel=0.01)


def test_nothing_is_promised_after_two_slides(backfills, jobs):
    found = requested(backfills, jobs, "/old", 4)
    end(jobs, 2, every=timedelta(minutes=1))
    progress = backfills.progress(found, NOW)
    assert (progress.per_hour, progress.left_s) == (None, None)


def test_a_halt_shows_in_the_rate_and_then_no_end_is_promised(backfills, jobs):
    found = requested(backfills, jobs, "/old", 200)
    end(jobs, 60, every=timedelta(minutes=1))
    before = backfills.progress(found, NOW)
    slower = backfills.progress(found, NOW + timedelta(minutes=5))
    halted = backfills.progress(found, NOW + timedelta(minutes=20))
    assert before.left_s < slower.left_s
    assert (slower.still_s, halted.still_s) == (None, 20 * 60)
    assert halted.left_s is None


def test_a_back_fill_of_which_nothing_ever_ended_stands_still(backfills, jobs):
    found = requested(backfills, jobs, "/old", 1, since=NOW - timedelta(hours=3))
    assert backfills.progress(found, NOW).still_s == 3 * 3600


def test_a_back_fill_that_is_requested_again_after_its_end_begins_anew(backfills, jobs):
    requested(backfills, jobs, "/old", 30, since=NOW - timedelta(days=90))
    end(jobs, 30, at=NOW - timedelta(days=80))
    new = jobs.discover(Path("/old/new.tif"), Path("/old"), STATE, BACKFILL, backfill_id=1)
    before = backfills.request(Path("/old"), "alice")
    jobs.queue(new)
    assert backfills.progress(before, NOW).still_s is not None  # it had not ended
    jobs.move(jobs.claim(), JobState.DONE, {"finished_at": as_text(NOW)})
    found = backfills.request(Path("/old"), "alice")
    again = jobs.discover(Path("/old/b.tif"), Path("/old"), STATE, BACKFILL, backfill_id=1)
    jobs.queue(again)
    now = datetime.fromisoformat(found.requested_at) + timedelta(minutes=2)
    assert backfills.progress(found, now).still_s is None


def test_a_paused_back_fill_promises_nothing_and_does_not_count_as_standing_still(backfills, jobs):
    found = requested(backfills, jobs, "/old", 60)
    end(jobs, 30, every=timedelta(minutes=1))
    backfills.pause(found, "alice")
    progress = backfills.progress(backfills.all()[0], NOW + timedelta(days=3))
    assert (progress.per_hour, progress.left_s, progress.still_s) == (None, None, None)


def test_what_is_said_of_progress_is_read_from_indexes(backfills, jobs):
    found = requested(backfills, jobs, "/old", 30)
    statements: list[str] = []
    jobs.database.conn.set_trace_callback(statements.append)
    backfills.progress(found, NOW)
    jobs.database.conn.set_trace_callback(None)
    plan = {
        row[3] for text in statements for row in jobs.database.execute(f"explain query plan {text}")
    }
    reads = {step for step in plan if "jobs" in step}
    assert all("jobs_by_backfill" in step or "jobs_by_state" in step for step in reads)
    assert not any(step.startswith("SCAN jobs") for step in reads)


def test_what_is_due_leaves_out_paused_back_fills_and_reads_none_of_their_jobs(backfills, jobs):
    def steps() -> int:
        counted: list[int] = []
        jobs.database.conn.set_progress_handler(lambda: counted.append(1), 1)
        jobs.due(50)
        jobs.database.conn.set_progress_handler(None, 1)
        return len(counted)

    def paused(folder: str, slides: int) -> None:
        backfills.pause(requested(backfills, jobs, folder, slides), "alice")

    paused("/old/a", 2)
    requested(backfills, jobs, "/old/b", 3)
    for number in range(2):
        new = jobs.discover(Path(f"/in/{number}.tif"), Path("/in"), STATE, number)
        jobs.queue(new)
    jobs.claim()
    assert jobs.due(50) == 5
    assert [jobs.due(most) for most in (1, 4)] == [1, 4]
    before = steps()
    for number in range(200):
        at = Path("/old/a")
        job = jobs.discover(at / f"n{number}.tif", at, STATE, BACKFILL, backfill_id=1)
        jobs.queue(job)
    assert jobs.due(50) == 5
    assert steps() == before
