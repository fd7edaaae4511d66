"""What triggers keep of the jobs: how many there are of each kind, and which is a path's newest."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from her2d.db.connection import open_database
from her2d.db.integrity import COUNTED
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState

_PATHS = ("/in/a", "/in/b", "/in/c")
_INSERT = """
    insert into jobs (id, path, file_name, inbox, state, priority, size, mtime_ns, discovered_at,
        not_before, overdue_at, backfill_id)
    values (:id, :path, 'x', :inbox, :state, :priority, 1, 1, 't', :not_before, :overdue_at,
        :backfill_id)
"""
_BY_READING_ALL = COUNTED["job_counts"] + " order by 1, 2, 3, 4, 5, 6, 7"
_KEPT = "select * from job_counts order by 1, 2, 3, 4, 5, 6, 7"

# States that end: of the others a path has one job only.
_ENDED = st.sampled_from([JobState.DONE, JobState.QUARANTINED, JobState.VANISHED])
_VALUES = st.fixed_dictionaries(
    {
        "path": st.sampled_from(_PATHS),
        "inbox": st.sampled_from(["", "/in"]),
        "state": _ENDED,
        "priority": st.sampled_from([-10, 0]),
        "not_before": st.sampled_from([None, "t"]),
        "overdue_at": st.sampled_from([None, "t"]),
        "backfill_id": st.sampled_from([None, 1]),
    }
)
_IDS = st.integers(1, 6)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), _IDS, _VALUES),
        st.tuples(st.just("update"), _IDS, _VALUES),
        st.tuples(st.just("move all"), _IDS, _VALUES),
        st.tuples(st.just("delete"), _IDS, st.none()),
    ),
    max_size=25,
)


def run(db: Database, step: tuple[str, int, dict | None]) -> None:
    what, job_id, values = step
    match what:
        case "insert":
            try:
                db.execute(_INSERT, {"id": job_id, **values})
            except sqlite3.IntegrityError:
                return  # the id is taken
        case "update":
            columns = ", ".join(f"{name} = :{name}" for name in values)
            db.execute(f"update jobs set {columns} where id = :id", {"id": job_id, **values})
        case "move all":
            db.execute("update jobs set path = ? where id >= ?", [values["path"], job_id])
        case "delete":
            db.execute("delete from jobs where id = ?", [job_id])


@pytest.mark.parametrize("recursive", ["on", "off"])
@settings(max_examples=60, deadline=None)
@given(steps=_STEPS)
def test_the_counts_are_those_that_reading_all_jobs_gives(recursive, steps):
    """Jobs are inserted, changed, moved to another path and deleted in any order; also by a program
    that does not switch recursive triggers on, as sqlite-utils does."""
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "her2d.sqlite")
        db.execute("pragma synchronous = off")
        db.execute(f"pragma recursive_triggers = {recursive}")
        db.execute(
            "insert into backfills (id, folder, requested_at, requested_by)"
            " values (1, '/old', 't', 'li')"
        )
        for step in steps:
            run(db, step)
            kept = db.execute(_KEPT).fetchall()
            assert kept == db.execute(_BY_READING_ALL).fetchall()
        db.close()


def test_a_change_that_is_rolled_back_is_not_counted(jobs):
    jobs.discover(Path("/in/a.tif"), Path("/in"), FileState(1, 10, 20))
    before = jobs.counts()
    jobs.database.execute("begin")
    jobs.discover(Path("/in/b.tif"), Path("/in"), FileState(2, 10, 20))
    assert jobs.counts() != before
    jobs.database.rollback()
    assert jobs.counts() == before


def test_a_quarantined_file_is_unresolved_until_it_has_a_newer_job(jobs):
    state = FileState(1, 10, 20)
    jobs.refuse(Path("/in/a.tif"), state, "It is not a slide.")
    jobs.refuse(Path("/in/b.tif"), state, "It is not a slide.")
    assert jobs.unresolved() == 2
    jobs.discover(Path("/in/a.tif"), Path("/in"), FileState(2, 11, 21))
    assert jobs.unresolved() == 1


def test_the_inboxes_are_those_of_jobs_that_have_not_ended(jobs):
    for name in ("a", "b"):
        jobs.queue(
            jobs.discover(Path(f"/in/{name}/1.tif"), Path(f"/in/{name}"), FileState(1, 1, 1))
        )
    jobs.refuse(Path("/in/c/1.tif"), FileState(1, 1, 1), "It is not a slide.", inbox=Path("/in/c"))
    jobs.move(jobs.claim(), JobState.DONE, {})
    assert JobQueue(jobs.database).inboxes() == {Path("/in/b")}
