"""A slide's result is written in one transaction."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from laboratory_sql import NUMBERS_SQL, RUNS_SQL, SLIDES_SQL

from her2d.db.connection import open_readonly
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.results.listing import list_results
from her2d.results.queries import slide_with_result
from her2d.results.records import CalibrationRecord
from her2d.system.file_identity import FileState

TABLES = ("slides", "bundles", "runs", "tiles", "events")


def rows(db):
    return {table: db.table(table).count for table in TABLES}


def test_a_result_reads_back_as_it_was_written(db, record):
    run_id = record()
    (result,) = list_results(db)
    assert (result.run_id, result.file_name, result.barcode) == (run_id, "a.tif", "900444")
    assert (result.her2_status, result.high_expression_percent) == ("positive", 40.0)
    assert (result.bundle_name, result.backend, result.borderline) == ("test", "onnxruntime", False)


def test_tiles_read_back_with_no_probability_where_there_is_none(db, record):
    record()
    found = list(
        db.query("select tile_row, tile_column, tile_class, p_strong, p_fold_5 from tiles")
    )
    assert [tuple(tile.values())[:3] for tile in found] == [
        (0, 1, "non_tumor"),
        (0, 2, "strong"),
        (1, 1, "weak"),
        (2, 7, "unreadable"),
    ]
    assert found[0]["p_strong"] is None
    assert found[1]["p_fold_5"] == pytest.approx(0.9)


def test_a_result_that_fails_half_way_leaves_nothing(db, record, request):
    tiles = request.getfixturevalue("record").__globals__["TILES"]
    twice = replace(tiles, row=tiles.row * 0, column=tiles.column * 0)
    with pytest.raises(sqlite3.IntegrityError):
        record(tiles=twice)
    assert rows(db) == dict.fromkeys(TABLES, 0)


def test_the_job_is_done_in_the_results_own_transaction(db, record):
    jobs = JobQueue(db)
    job = jobs.discover(Path("/in/a.tif"), Path("/in"), FileState(1, 2, 3))
    with pytest.raises(sqlite3.IntegrityError):
        record(job_id=job.id, run={"her2_status": "magic"})
    assert jobs.get(job.id).state is JobState.SETTLING
    run_id = record(job_id=job.id)
    assert jobs.get(job.id).state is JobState.DONE
    stored = next(db.query("select run_id, slide_id from jobs"))
    assert stored == {"run_id": run_id, "slide_id": list_results(db)[0].slide_id}


def test_a_reader_sees_the_whole_result_or_none(db, record, tmp_path):
    reader = open_readonly(tmp_path / "her2d.sqlite")
    with db.atomic():
        record()
        assert list_results(reader) == []
    assert len(list_results(reader)) == 1


def test_another_run_of_a_slide_keeps_the_first_and_is_the_current_one(db, record):
    record()
    newest = record(run={"her2_status": "negative"}, bundle={"digest": "e" * 64})
    assert [result.run_id for result in list_results(db)] == [newest]
    assert rows(db)["runs"] == 2
    assert rows(db)["slides"] == 1


def test_the_calibration_that_a_run_used_is_kept_with_what_it_said(db, record):
    record(bundle={"calibration": CalibrationRecord("c" * 64, "signed_by = 'Dr A. Li'")})
    record(
        bundle={"calibration": CalibrationRecord("c" * 64, "signed_by = 'Dr A. Li'")},
        slide={"content_hash": "b"},
    )
    record(slide={"content_hash": "d"})
    assert [result.calibration for result in list_results(db)][:2] == [None, "c" * 64]
    (kept,) = db.query(
        "select calibrations.*, bundles.digest as bundle from calibrations"
        " join bundles on bundles.id = bundle_id"
    )
    assert (kept["content"], kept["bundle"]) == ("signed_by = 'Dr A. Li'", "d" * 64)


def test_a_renamed_copy_is_the_same_slide_by_its_new_name(db, record):
    record()
    record(slide={"file_name": "b.tif", "path": "/in/b.tif"})
    assert [result.file_name for result in list_results(db)] == ["b.tif"]


def test_a_slides_content_is_known_for_the_bundle_that_ran_it(db, record):
    record()
    slide_id = list_results(db)[0].slide_id
    assert slide_with_result(db, "blake2b:aa", "d" * 64) == slide_id
    assert slide_with_result(db, "blake2b:aa", "e" * 64) is None
    assert slide_with_result(db, "blake2b:bb", "d" * 64) is None


def instructions(db, work) -> int:
    """Return how many instructions SQLite executes for the work, those of triggers included."""
    executed = 0

    def count() -> int:
        nonlocal executed
        executed += 1
        return 0

    db.conn.set_progress_handler(count, 1)
    work()
    db.conn.set_progress_handler(None, 1)
    return executed


def test_recording_a_result_takes_as_many_steps_however_many_slides_there_are(db, record):
    def recorded(name: str) -> int:
        jobs = JobQueue(db)
        job = jobs.discover(Path(f"/in/{name}.tif"), Path("/in"), FileState(1, 2, 3))
        slide = {"content_hash": name, "file_name": f"{name}.tif", "path": str(job.path)}
        return instructions(db, lambda: record(slide=slide, job_id=job.id))

    recorded("the first, which adds the bundle")
    few = recorded("one of few")
    numbers = NUMBERS_SQL.format(last=2000).replace("select 1 ", "select 10 ")
    with db.atomic():
        db.execute(numbers + SLIDES_SQL)
        db.execute(numbers + RUNS_SQL.format(bundle=1, step=1.7))
        db.execute(
            "insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at)"
            " select path, file_name, '/in', 'done', 1, 1, first_seen_at from slides where id > 9"
        )
    assert recorded("one of many") < 1.1 * few
