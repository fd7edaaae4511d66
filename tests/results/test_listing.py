"""Lists of current results: filtered, sorted and by pages."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from her2d.pipeline.evaluability import ReasonCode
from her2d.results import listing
from her2d.results.listing import (
    Order,
    ResultFilter,
    SortKey,
    count_results,
    list_results,
    results_after,
)
from her2d.results.records import QualityFlag
from her2d.results.renaming import rename_slide


@pytest.fixture
def three(record, quality):
    record(quality=quality(), run={"send_to_ihc": False})
    record(
        slide={"content_hash": "b", "file_name": "b.tif", "path": "/in/b.tif", "barcode": "7"},
        run={
            "her2_status": "negative",
            "high_expression_percent": 9.0,
            "borderline": True,
            "send_to_ihc": True,
            "finished_at": "2026-01-02T08:00:00.000000Z",
        },
        bundle={"digest": "e" * 64, "name": "other", "version": "2"},
        quality=quality(blurred=True, pen_marked=True),
    )
    record(
        slide={"content_hash": "c", "file_name": "c_1.svs", "path": "/in/c_1.svs", "barcode": "7"},
        run={
            "her2_status": "indeterminate",
            "reason_code": ReasonCode.NO_TUMOR,
            "high_expression_percent": None,
            "finished_at": "2026-01-03T08:00:00.000000Z",
        },
    )


def names(db, wanted=None, **options):
    found = list_results(db, wanted or ResultFilter(), **options)
    return [result.file_name for result in found]


def test_results_come_newest_first(db, three):
    assert names(db) == ["c_1.svs", "b.tif", "a.tif"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ResultFilter(status="negative"), ["b.tif"]),
        (ResultFilter(reason_code=ReasonCode.NO_TUMOR), ["c_1.svs"]),
        (ResultFilter(reason_code=ReasonCode.UNREADABLE), []),
        (ResultFilter(borderline=True), ["b.tif"]),
        (ResultFilter(borderline=False), ["c_1.svs", "a.tif"]),
        (ResultFilter(send_to_ihc=True), ["b.tif"]),
        (ResultFilter(send_to_ihc=False), ["a.tif"]),
        (ResultFilter(since=datetime(2026, 1, 2, 8, tzinfo=UTC)), ["c_1.svs", "b.tif"]),
        (ResultFilter(until=datetime(2026, 1, 2, 8, tzinfo=UTC)), ["a.tif"]),
        (ResultFilter(bundle="other"), ["b.tif"]),
        (ResultFilter(bundle="other 2"), ["b.tif"]),
        (ResultFilter(bundle="other 3"), []),
        (ResultFilter(text="B.TIF"), ["b.tif"]),
        (ResultFilter(text="900444"), ["a.tif"]),
        (ResultFilter(flags=frozenset({QualityFlag.BLURRED})), ["b.tif"]),
        (ResultFilter(flags=frozenset({QualityFlag.BLURRED, QualityFlag.PEN_MARKED})), ["b.tif"]),
        (ResultFilter(flags=frozenset({QualityFlag.FOLDED})), []),
        (ResultFilter(status="negative", text="a.tif"), []),
    ],
)
def test_each_filter_narrows_the_list_and_the_count(db, three, wanted, found):
    assert names(db, wanted) == found
    assert count_results(db, wanted) == len(found)


@pytest.mark.parametrize("text", ["%", "_.", "'; drop table slides; --", "\\"])
def test_text_is_literal(db, three, text):
    assert names(db, ResultFilter(text=text)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A", ["a.tif"]),
        ("_1", ["c_1.svs"]),
        ("1.S", ["c_1.svs"]),
        (".tif", ["b.tif", "a.tif"]),
        ("tif.", []),
        ("7", ["c_1.svs", "b.tif"]),
        ("00444", ["a.tif"]),
        ('"tif"', []),
        ("tif OR svs", []),
        ("tif\0", []),
        ("", ["c_1.svs", "b.tif", "a.tif"]),
    ],
)
@pytest.mark.parametrize("common", [20_000, 0], ids=["few have it", "many have it"])
def test_any_part_of_a_name_or_barcode_finds_a_slide(db, three, text, found, common, monkeypatch):
    monkeypatch.setattr(listing, "_COMMON", common)
    assert names(db, ResultFilter(text=text)) == found
    by_id = [result.file_name for result in results_after(db, ResultFilter(text=text), 0, 9)]
    assert sorted(by_id) == sorted(found)
    assert count_results(db, ResultFilter(text=text)) == len(found)


@given(
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
    cut=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_part_of_every_name_finds_its_slide(db, record, name, cut):
    record(slide={"content_hash": name, "file_name": name})
    assert name in names(db, ResultFilter(text=name[min(cut) : max(cut)]))


@pytest.mark.parametrize("common", [20_000, 0])
def test_upper_and_lower_case_are_one_beyond_a_to_z_too(db, record, common, monkeypatch):
    monkeypatch.setattr(listing, "_COMMON", common)
    record(slide={"content_hash": "1", "file_name": "Müller.tif"})
    for text in ("MÜLLER", "üll", "ÜLL"):
        assert names(db, ResultFilter(text=text)) == ["Müller.tif"]
        assert count_results(db, ResultFilter(text=text)) == 1


def test_a_renamed_slide_is_found_by_its_present_name_only(db, record):
    record(slide={"file_name": "before.tif", "path": "/in/before.tif"})
    (before,) = list_results(db)
    rename_slide(db, before.slide_id, Path("/in/after.tif"))
    assert names(db, ResultFilter(text="after")) == ["after.tif"]
    assert names(db, ResultFilter(text="before")) == []


@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("descending", [True, False])
def test_the_first_page_of_no_order_needs_sorting(db, three, key, descending):
    """With 100,000 slides, sorting takes longer than anything else."""
    statements: list[str] = []
    db.conn.set_trace_callback(statements.append)
    list_results(db, order=Order(key, descending=descending), limit=50)
    db.conn.set_trace_callback(None)
    (listed,) = (text for text in statements if "slide_results where" in text)
    (chosen,) = re.findall(r"run_id in \((.*)\) order by", listed)
    plan = [row[3] for row in db.execute(f"explain query plan {chosen}")]
    assert [step for step in plan if "B-TREE" in step and "RIGHT PART" not in step] == []


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (Order(SortKey.FINISHED, descending=False), ["a.tif", "b.tif", "c_1.svs"]),
        (Order(SortKey.PERCENT), ["a.tif", "b.tif", "c_1.svs"]),
        (Order(SortKey.PERCENT, descending=False), ["b.tif", "a.tif", "c_1.svs"]),
        (Order(SortKey.NAME, descending=False), ["a.tif", "b.tif", "c_1.svs"]),
        (Order(SortKey.NAME), ["c_1.svs", "b.tif", "a.tif"]),
    ],
)
def test_results_are_sorted_as_requested(db, three, order, found):
    assert names(db, order=order) == found


def test_the_closest_to_the_threshold_come_first_by_margin(db, three):
    order = Order(SortKey.MARGIN, descending=False)
    assert names(db, order=order) == ["b.tif", "a.tif", "c_1.svs"]


@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("descending", [True, False])
def test_pages_together_are_the_whole_list(db, three, key, descending):
    order = Order(key, descending=descending)
    pages = [names(db, order=order, limit=1, offset=offset) for offset in range(4)]
    assert [name for page in pages for name in page] == names(db, order=order)
    assert pages[3] == []


def test_results_of_a_doubtful_scale_are_listed_by_their_flag(db, record):
    record(slide={"content_hash": "a", "file_name": "a.tif"})
    remark = "The scan is 16 % coarser than the 2.5 um/px of the models."
    record(slide={"content_hash": "b", "file_name": "b.tif"}, run={"scale_remark": remark})
    (found,) = list_results(db, ResultFilter(flags=frozenset({QualityFlag.OFF_SCALE})))
    assert (found.file_name, found.quality_flags) == ("b.tif", (QualityFlag.OFF_SCALE,))
    assert (found.scale_remark, found.um_per_px, found.mpp) == (remark, 2.5, 2.5)


def test_a_result_carries_its_quality_flags(db, three):
    flags = {result.file_name: result.quality_flags for result in list_results(db)}
    assert flags == {
        "a.tif": (),
        "b.tif": (QualityFlag.BLURRED, QualityFlag.PEN_MARKED),
        "c_1.svs": (),
    }


def test_a_label_that_names_another_slide_is_flagged_and_said(db, record):
    record()
    record(
        slide={
            "content_hash": "b",
            "file_name": "b.tif",
            "barcode": "7",
            "barcode_source": "description",
            "label_barcode": "8",
            "barcode_mismatch": True,
        }
    )
    flag = QualityFlag.BARCODE_MISMATCH
    (found,) = list_results(db, ResultFilter(flags=frozenset({flag})))
    assert found.quality_flags == (flag,)
    assert found.barcode_remark == (
        "The label shows the barcode 8, and the file states 7: check whose slide this is."
    )
    assert [row["slide_id"] for row in db.query("select * from quality_concerns")] == [2]
    assert [result.file_name for result in list_results(db, ResultFilter(text="8"))] == ["b.tif"]


def test_a_slide_scored_again_has_the_barcode_that_was_read_last(db, record):
    record(slide={"barcode": None})
    record(slide={"barcode": "900444", "barcode_source": "label", "label_barcode": "900444"})
    (found,) = list_results(db)
    assert (found.barcode, found.barcode_source) == ("900444", "label")


def test_the_margin_is_the_distance_from_the_threshold_of_the_bundle(db, record):
    for name, percent, threshold in (("far", 12.0, 10.0), ("near", 6.0, 5.0), ("next", 8.5, 10.0)):
        run = {"high_expression_percent": percent, "threshold_percent": threshold}
        record(slide={"content_hash": name, "file_name": f"{name}.tif"}, run=run)
    order = Order(SortKey.MARGIN, descending=False)
    assert [r.file_name for r in list_results(db, order=order)] == [
        "near.tif",
        "next.tif",
        "far.tif",
    ]
