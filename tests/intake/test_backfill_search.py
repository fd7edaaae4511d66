"""The search of a back-fill's folder: every scan in it gets one job, whatever happens meanwhile."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.intake.backfill_search import BackfillSearch
from her2d.intake.destination import destination
from her2d.queue.backfills import Backfills
from her2d.queue.job import BACKFILL, JobState
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings


@pytest.fixture
def jobs(tmp_path):
    db = open_database(tmp_path / "her2d.sqlite")
    yield JobQueue(db)
    db.close()


@pytest.fixture
def old(tmp_path) -> Path:
    return tmp_path / "old"


def scans(folder: Path, *names: str, days: float = 30) -> None:
    at = time.time() - 86400 * days
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
        os.utime(file, (at, at))


def settings(old: Path, **keys) -> IntakeSettings:
    # The change time of a file cannot be set, so that "old" is here what is older than a moment.
    return IntakeSettings(inboxes=(old / "inbox",), **{"incomplete_after_s": 0.01, **keys})


def searched(jobs, old, **keys) -> None:
    time.sleep(0.02)
    finish(BackfillSearch(jobs, settings(old, **keys)))


def finish(search: BackfillSearch) -> None:
    """Search until nothing is left, in as many passes as this machine needs."""
    search.run_once(frozenset())
    while search._search is not None:
        search.run_once(frozenset())


def states(jobs) -> dict[str, str]:
    return {job.path.name: job.state.value for job in jobs.in_state()}


def test_every_old_scan_is_queued_as_back_fill_without_settling(jobs, old):
    scans(old, "a.tif", "2019/b.svs", "2019/notes.txt", ".hidden.tif")
    found = Backfills(jobs.database).request(old, "alice")
    searched(jobs, old)
    assert states(jobs) == {"a.tif": "queued", "b.svs": "queued"}
    assert {(job.priority, job.inbox, job.backfill_id) for job in jobs.in_state()} == {
        (BACKFILL, old, found.id)
    }
    (after,) = Backfills(jobs.database).all()
    assert (after.files, after.problem) == (2, None)
    assert after.searched_at is not None


def test_a_scan_that_was_just_written_settles_first(jobs, old):
    scans(old, "a.tif")
    Backfills(jobs.database).request(old, "alice")
    searched(jobs, old, incomplete_after_s=3600)
    assert states(jobs) == {"a.tif": "settling"}


def test_a_search_that_a_restart_ended_begins_again_and_doubles_no_job(jobs, old, monkeypatch):
    scans(old, *(f"{number}.tif" for number in range(30)))
    backfills = Backfills(jobs.database)
    backfills.request(old, "alice")
    noted = backfills.found

    def dies(_self, backfill, files):
        noted(backfill, files)
        if files > 10:
            raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Backfills, "found", dies)
        patched.setattr("her2d.intake.backfill_search._BATCH", 1)
        patched.setattr("her2d.intake.discovery._ENTRIES_AT_ONCE", 3)
        with pytest.raises(RuntimeError):
            searched(jobs, old)
    assert 0 < len(jobs.in_state()) < 30
    searched(jobs, old)
    assert len(jobs.in_state()) == 30
    assert backfills.to_search() == []


def test_a_database_that_fails_for_a_moment_costs_no_scan(jobs, old, monkeypatch):
    scans(old, *(f"{number}.tif" for number in range(30)))
    backfills = Backfills(jobs.database)
    backfills.request(old, "alice")
    monkeypatch.setattr("her2d.intake.backfill_search._BATCH", 1)
    monkeypatch.setattr("her2d.intake.discovery._ENTRIES_AT_ONCE", 3)
    noted, failures = backfills.found, [True, True]

    def found(_self, backfill, files):
        if files and failures and failures.pop(0):
            raise sqlite3.OperationalError("database is locked")
        noted(backfill, files)

    monkeypatch.setattr(Backfills, "found", found)
    time.sleep(0.02)
    search = BackfillSearch(jobs, settings(old))
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            search.run_once(frozenset())
    finish(search)
    assert len(jobs.in_state()) == 30
    assert (backfills.to_search(), backfills.all()[0].files) == ([], 30)


def test_a_request_during_the_search_finds_what_came_after_the_search_had_passed(
    jobs, old, monkeypatch
):
    scans(old, *(f"{number}.tif" for number in range(30)))
    backfills = Backfills(jobs.database)
    backfills.request(old, "alice")
    search = BackfillSearch(jobs, settings(old))
    with monkeypatch.context() as patched:
        patched.setattr("her2d.intake.backfill_search._PASS_S", 0.0001)
        patched.setattr("her2d.intake.backfill_search._BATCH", 1)
        patched.setattr("her2d.intake.discovery._ENTRIES_AT_ONCE", 3)
        while not jobs.in_state():  # a pass ends at once on a busy machine
            search.run_once(frozenset())
    assert 0 < len(jobs.in_state()) < 30
    scans(old, "new.tif")  # the folder's list was read before
    backfills.request(old, "alice")
    finish(search)
    assert "new.tif" in states(jobs)
    assert (backfills.to_search(), backfills.all()[0].files) == ([], 31)


def test_a_request_at_the_end_of_a_search_is_not_taken_for_searched(jobs, old):
    backfills = Backfills(jobs.database)
    found = backfills.request(old, "alice")
    backfills.found(found, 5)
    backfills.request(old, "alice")
    assert not backfills.searched(found, 5, None)
    assert len(backfills.to_search()) == 1


def test_a_second_request_finds_what_is_new_and_what_has_a_result_stays(jobs, old):
    scans(old, "a.tif")
    backfills = Backfills(jobs.database)
    backfills.request(old, "alice")
    searched(jobs, old)
    jobs.move(jobs.claim(), JobState.DONE, {})
    scans(old, "b.tif")
    backfills.request(old, "alice")
    searched(jobs, old)
    assert states(jobs) == {"a.tif": "done", "b.tif": "queued"}
    progress = backfills.progress(backfills.all()[0])
    assert (progress.slides, progress.known) == (2, 0)


def test_scans_in_an_inbox_below_the_folder_stay_the_inboxs(jobs, old):
    scans(old, "a.tif", "inbox/new.tif")
    Backfills(jobs.database).request(old, "alice")
    searched(jobs, old)
    assert states(jobs) == {"a.tif": "queued"}


def test_a_paused_folder_and_one_that_hangs_are_not_read(jobs, old):
    scans(old, "a.tif")
    backfills = Backfills(jobs.database)
    found = backfills.request(old, "alice")
    backfills.pause(found, "alice")
    searched(jobs, old)
    backfills.resume(found, "alice")
    BackfillSearch(jobs, settings(old)).run_once(frozenset({old}))
    assert jobs.in_state() == []
    searched(jobs, old)
    assert states(jobs) == {"a.tif": "queued"}


def test_a_folder_that_is_away_is_told_and_searched_when_it_returns(jobs, old):
    backfills = Backfills(jobs.database)
    backfills.request(old, "alice")
    searched(jobs, old)
    assert backfills.all()[0].problem == f"{old} cannot be searched: No such file or directory."
    scans(old, "a.tif")
    searched(jobs, old)
    assert states(jobs) == {"a.tif": "queued"}
    assert backfills.all()[0].problem is None


def test_the_file_of_a_back_fill_is_never_moved(jobs, old):
    scans(old, "a.tif")
    Backfills(jobs.database).request(old, "alice")
    searched(jobs, old)
    job = jobs.claim()
    jobs.move(job, JobState.DONE, {})
    moving = settings(old, on_success="move", on_failure="move")
    assert destination(jobs.get(job.id), moving) is None
