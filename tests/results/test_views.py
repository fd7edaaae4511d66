"""The SQL views that people query with their own tools."""

import pytest


def rows(db, view):
    return list(db.query(f"select * from {view}"))


@pytest.fixture
def two_days(record, quality):
    early = {"finished_at": "2026-01-01T00:00:20.000000Z", "elapsed_s": 10.0}
    record(slide={"content_hash": "a"}, run=early, quality=quality(folded=True))
    record(slide={"content_hash": "b"}, run={**early, "her2_status": "negative"})
    record(
        slide={"content_hash": "c", "file_name": "c.tif"},
        run={
            "finished_at": "2026-01-02T00:01:00.000000Z",
            "queued_at": "2026-01-01T23:59:30.000000Z",
            "started_at": "2026-01-02T00:00:00.000000Z",
            "elapsed_s": 4.0,
            "borderline": True,
            "high_expression_percent": 10.5,
        },
        quality=quality(),
    )


def test_daily_counts_are_of_current_results(db, two_days, record):
    record(slide={"content_hash": "a"}, run={"finished_at": "2026-01-02T00:00:00.000000Z"})
    assert [tuple(row.values()) for row in rows(db, "daily_counts")] == [
        ("2026-01-02", 2, 2, 0, 0, 1),
        ("2026-01-01", 1, 0, 1, 0, 0),
    ]


def test_throughput_counts_every_run_its_tiles_and_its_waiting(db, two_days):
    assert [tuple(row.values()) for row in rows(db, "throughput")] == [
        ("2026-01-02", 1, 48, 4.0, 4.0, 12.0, 30.0),
        ("2026-01-01", 2, 96, 10.0, 10.0, 4.8, None),
    ]


def test_borderline_cases_come_closest_first(db, two_days, record):
    record(slide={"content_hash": "d"}, run={"borderline": True, "high_expression_percent": 9.9})
    assert [row["high_expression_percent"] for row in rows(db, "borderline_cases")] == [9.9, 10.5]


def test_how_close_is_measured_from_the_threshold_of_the_bundle(db, two_days, record):
    of_another = {"borderline": True, "high_expression_percent": 7.2, "threshold_percent": 7.0}
    record(slide={"content_hash": "d"}, run=of_another)
    assert [row["high_expression_percent"] for row in rows(db, "borderline_cases")] == [7.2, 10.5]


def test_the_ihc_worklist_has_the_slides_to_send_without_an_outcome(db, record):
    for name, send in (("a", True), ("b", True), ("c", False), ("d", None)):
        record(slide={"content_hash": name, "file_name": name}, run={"send_to_ihc": send})
    assert [row["file_name"] for row in rows(db, "ihc_worklist")] == ["a", "b"]
    db.execute(
        "insert into outcomes (slide_id, ihc, imported_at, imported_by, source)"
        " values (1, '2+', 't', 'li', 'ihc.csv')"
    )
    assert [row["file_name"] for row in rows(db, "ihc_worklist")] == ["b"]


def test_quality_concerns_are_slides_with_a_flag(db, two_days):
    assert [(row["slide_id"], row["quality_flags"]) for row in rows(db, "quality_concerns")] == [
        (1, "folded")
    ]


def test_a_slide_with_several_flags_is_one_concern(db, record, quality):
    doubtful = {"scale_remark": "The scan was enlarged."}
    mismatch = {"barcode_mismatch": True}
    record(slide={"content_hash": "a"}, run=doubtful)
    record(slide={"content_hash": "b", **mismatch}, run=doubtful)
    record(slide={"content_hash": "c", **mismatch}, run=doubtful, quality=quality(blurred=True))
    record(slide={"content_hash": "d"}, run=doubtful)
    record(slide={"content_hash": "d"})  # its newer run has no doubt
    found = {row["slide_id"]: row["quality_flags"] for row in rows(db, "quality_concerns")}
    assert len(rows(db, "quality_concerns")) == 3
    assert found == {
        1: "off-scale",
        2: "barcode-mismatch,off-scale",
        3: "blurred,barcode-mismatch,off-scale",
    }
