"""What listings of results say of a slide and of its runs."""

from dataclasses import replace

import pytest
from a_result import BUNDLE, QUALITY, RUN, SCORE, SLIDE, TILES
from rich.console import Console

from her2d.cli.result_tables import result_table, run_table
from her2d.db.connection import open_database
from her2d.results.history import PastRun
from her2d.results.queries import find_slide
from her2d.results.store import record_run

HER2NET = PastRun(
    run_id=1,
    finished_at="2026-11-01T10:00:00Z",
    bundle="test 1",
    her2_status="positive",
    high_expression_percent=40.0,
    positive_probability=None,
    probability_threshold=None,
    ci_low=30.0,
    ci_high=50.0,
    backend="onnxruntime",
    software_version="1",
    elapsed_s=1.0,
    send_to_ihc=None,
    calibration=None,
)
MIL = replace(
    HER2NET,
    run_id=2,
    high_expression_percent=None,
    positive_probability=0.7312,
    probability_threshold=0.4,
    ci_low=None,
    ci_high=None,
)


def printed(listing, capsys) -> str:
    listing.print(Console(width=200))
    return capsys.readouterr().out


def test_the_runs_that_call_by_probability_are_listed_with_it(capsys):
    text = printed(run_table([MIL, HER2NET]), capsys)
    assert "probability" in text
    assert "0.731" in text


def test_runs_of_which_none_calls_by_probability_have_no_such_column(capsys):
    assert "probability" not in printed(run_table([HER2NET]), capsys)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("No tumour was found.", "No tumour was found. stain-outlier"), (None, "; stain-outlier")],
)
def test_a_remark_that_is_a_sentence_is_not_followed_by_a_semicolon(
    tmp_path, capsys, reason, expected
):
    db = open_database(tmp_path / "her2d.sqlite")
    score = SCORE.model_copy(update={"reason": reason, "borderline": True})
    run = replace(RUN, score=score, quality=replace(QUALITY, stain_outlier=True))
    record_run(db, slide=SLIDE, bundle=BUNDLE, run=run, tiles=TILES)
    text = printed(result_table([find_slide(db, "a")]), capsys)
    db.close()
    assert expected in text
    assert ".;" not in text
