"""`her2d backfill`: what it says and refuses; the daemon does the work."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from her2d.db.connection import open_database
from her2d.db.lock import hold_daemon_lock
from her2d.intake.backfill_search import BackfillSearch
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings
from her2d.system.clock import as_text


@pytest.fixture
def old(laboratory):
    """A folder with three scans, in a laboratory whose daemon runs."""
    folder = laboratory.folder / "old"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.tif").write_bytes(b"scan")
    open_database(laboratory.database).close()
    with hold_daemon_lock(laboratory.database):
        yield folder


def pass_of_daemon(laboratory, *, slides=0):
    """Do what the daemon does: search, and end some slides."""
    db = open_database(laboratory.database)
    jobs = JobQueue(db)
    settings = IntakeSettings(inboxes=(laboratory.folder / "inbox",), incomplete_after_s=0.001)
    search = BackfillSearch(jobs, settings)
    while search.folders():
        search.run_once(frozenset())
    at = datetime.now(UTC)
    long_ago = as_text(at - timedelta(hours=5))
    db.execute("update backfills set requested_at = ?, resumed_at = null", [long_ago])
    for number in range(slides):
        ended = as_text(at - timedelta(minutes=number))
        jobs.move(jobs.claim(), JobState.DONE, {"finished_at": ended})
    db.close()


def test_a_folder_is_searched_by_the_daemon_and_its_progress_is_told(laboratory, her2d, old):
    code, out, _ = her2d("backfill", old)
    assert (code, "The folder is being searched." in out) == (0, True)
    pass_of_daemon(laboratory, slides=30)
    _, out, _ = her2d("backfill")
    assert "30 of 60 slides have ended (50 %). 30 an hour: about 1 h 0 min left, until" in out


def test_a_pause_outlives_the_command_and_a_resume_ends_it(laboratory, her2d, old):
    her2d("backfill", old)
    pass_of_daemon(laboratory)
    _, out, _ = her2d("backfill", "--pause")
    assert "Paused since" in out
    db = open_database(laboratory.database)
    assert JobQueue(db).claim() is None
    _, out, _ = her2d("backfill", old, "--resume")
    assert "Paused" not in out
    assert JobQueue(db).claim() is not None
    db.close()


def test_programs_read_the_progress_as_json(laboratory, her2d, old):
    her2d("backfill", old)
    pass_of_daemon(laboratory, slides=30)
    (found,) = laboratory.json("backfill")
    assert (found["folder"], found["slides"], found["ended"]) == (str(old), 60, 30)
    assert found["jobs"] == {"queued": 30, "done": 30}
    assert found["left_s"] == pytest.approx(3600, rel=0.05)


def test_a_halt_is_told_in_place_of_an_end(laboratory, her2d, old):
    her2d("backfill", old)
    pass_of_daemon(laboratory)
    _, out, _ = her2d("backfill")
    assert "It stands still: no slide has ended for 5 h 0 min." in out


def test_it_says_that_no_daemon_runs(laboratory, her2d, tmp_path):
    open_database(laboratory.database).close()
    (laboratory.folder / "old").mkdir()
    _, out, _ = her2d("backfill", laboratory.folder / "old")
    assert "her2d is not running: start it, and it goes on." in out


def test_following_ends_when_every_slide_has_ended(laboratory, her2d, old):
    her2d("backfill", old)
    pass_of_daemon(laboratory, slides=60)
    code, out, _ = her2d("backfill", "--follow")
    assert (code, out.splitlines()[-1]) == (0, "All slides have ended.")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "There is no folder .*/nowhere"),
        (["inbox"], "is in the inbox .*, where the daemon finds scans without this"),
        (["--pause", "old"], "old is not back-filled. See her2d backfill"),
        (["--pause", "--resume"], "--pause and --resume exclude each other"),
        (["old", "--follow", "--json"], "--follow and --json exclude each other"),
        (["--cluster", "old"], "this machine alone would score the slides"),
        (["old", "--cluster", "ray://head.example:10001"], "--cluster takes no address"),
        (["old", "--cluster", "auto"], "--cluster takes no address"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    laboratory, her2d, old, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(laboratory.folder)
    (laboratory.folder / "inbox").mkdir(exist_ok=True)
    code, _, err = her2d("backfill", *arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert re.search(sentence, err)
