"""`her2d results`, `show`, `heatmap`, `queue`, `bundle`."""

import csv
import io
import json
import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from her2d import __version__
from her2d.db.connection import open_database, open_readonly
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState


@pytest.fixture
def scanned(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "a.tif"), write_slide(["ww"], "b.tif"))
    return laboratory


def test_results_lists_slides_newest_first(scanned):
    assert {row["file_name"] for row in scanned.json("results")} == {"a.tif", "b.tif"}


def test_results_can_be_limited_to_a_status(scanned):
    rows = scanned.json("results", "--status", "positive")
    assert [row["file_name"] for row in rows] == ["a.tif"]


def test_results_can_be_searched_sorted_and_paged(scanned):
    assert [row["file_name"] for row in scanned.json("results", "--text", "b.t")] == ["b.tif"]
    by_name = [row["file_name"] for row in scanned.json("results", "--sort", "name")]
    assert by_name == ["a.tif", "b.tif"]
    second = scanned.json("results", "--sort", "name", "--limit", 1, "--page", 2)
    assert [row["file_name"] for row in second] == ["b.tif"]
    assert "page 2 of 2" in scanned.run("results", "--limit", 1, "--page", 2).stdout


def test_until_a_day_includes_the_day(scanned):
    today = scanned.json("results")[0]["finished_at"][:10]
    assert len(scanned.json("results", "--since", today, "--until", today)) == 2
    assert scanned.json("results", "--until", f"{today}T00:00") == []


def test_a_time_that_cannot_be_read_is_one_clear_line(scanned, her2d):
    code, _, err = her2d("results", "--since", "yesterday")
    assert (code, err.count("\n")) == (1, 1)
    assert "'yesterday' is not a day or time. Write it as" in err


def test_results_as_csv_have_the_views_column_names(scanned):
    rows = list(csv.DictReader(io.StringIO(scanned.run("results", "--csv").stdout)))
    assert {row["file_name"]: row["her2_status"] for row in rows} == {
        "a.tif": "positive",
        "b.tif": "negative",
    }
    columns = next(open_readonly(scanned.database).query("select * from slide_results"))
    assert list(rows[0]) == list(columns)


@pytest.mark.parametrize("name", ["=1+1.tif", "+1.tif", "-1+1.tif", "@SUM(A1).tif"])
def test_no_cell_of_the_csv_is_a_formula(laboratory, write_slide, name):
    laboratory.run("scan", write_slide(["S"], name))  # the barcode is the name without .tif
    (row,) = csv.DictReader(io.StringIO(laboratory.run("results", "--csv").stdout))
    assert row["file_name"] == f"'{name}"
    assert row["barcode"] == f"'{name.removesuffix('.tif')}"
    assert row["high_expression_percent"] == "100.0"


def test_json_and_csv_at_once_are_refused(scanned, her2d):
    assert her2d("results", "--json", "--csv")[0] == 1


def test_results_without_a_database_are_reported_in_one_clear_line(her2d):
    code, _, err = her2d("results")
    assert code == 1
    assert "There is no database" in err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_results_name_and_status_are_whole_at_any_width(
    laboratory, write_slide, on_a_terminal, width
):
    name = "2026-11-27_gastric_biopsy_patient_000012345_rescan_B.tif"
    laboratory.run("scan", write_slide(["ss"], name))
    printed = on_a_terminal(width, "results")
    assert sum(name in line for line in printed.splitlines()) == 1
    assert "indeterminate" in printed
    assert "No tumour was found in any tile." in printed
    assert ("Not shown at this width" in printed) == (width < 160)
    assert max(map(len, printed.splitlines())) <= width
    assert name in on_a_terminal(width, "show", name).splitlines()


def test_in_a_pipe_each_result_is_one_line_with_every_column(scanned):
    printed = scanned.run("results").stdout.splitlines()
    heading, *rows = [re.split(" {2,}", line.strip()) for line in printed]
    assert heading == [
        "id",
        "slide",
        "HER2",
        "high expression",
        "95 % interval",
        "tumour tiles",
        "finished (UTC)",
        "barcode",
        "remark",
    ]
    (positive,) = [row for row in rows if row[1] == "a.tif"]
    assert positive[2:4] == ["positive", "50.0 %"]
    assert len(positive) == len(heading)


def test_filters_that_no_slide_passes_are_one_sentence(scanned):
    assert scanned.run("results", "--text", "magic").stdout == "No slides match.\n"


def test_a_page_after_the_last_says_how_many_pages_there_are(scanned):
    assert scanned.run("results", "--page", 9).stdout == ("0 of 2 slides, page 9 of 1 (--page).\n")


def test_show_prints_everything_about_a_slide_by_its_name_or_barcode(scanned):
    assert scanned.json("show", "a.tif") == scanned.json("show", "a")
    assert scanned.json("show", "a")["high_expression_percent"] == pytest.approx(50)
    assert "50" in scanned.run("show", "a").stdout


def test_show_sums_up_tiles_and_lists_the_runs(scanned, tmp_path):
    scanned.run("scan", tmp_path / "a.tif")
    shown = scanned.json("show", "a")
    assert {tile_class["tile_class"]: tile_class["tiles"] for tile_class in shown["tiles"]} == {
        "strong": 1,
        "weak": 1,
    }
    assert len(shown["runs"]) == 2
    printed = scanned.run("show", "a").stdout
    assert "Runs" in printed
    assert "background" in printed


def test_show_of_an_unknown_slide_is_one_clear_line(scanned, her2d):
    code, _, err = her2d("show", "magic")
    assert code == 1
    assert err == (
        "her2d: There is no result for a slide 'magic'; see her2d results and her2d queue ls.\n"
    )


@pytest.mark.parametrize(
    "command", [("show",), ("heatmap",), ("export", "--format", "csv", "-o", "x")]
)
def test_a_file_without_a_result_is_reported_with_its_jobs_state_and_reason(
    laboratory, her2d, command
):
    with closing(open_database(laboratory.database)) as db:
        job = JobQueue(db).refuse(
            laboratory.inbox / "nomag.tif", FileState(1, 2, 3), "It states no magnification."
        )
    code, _, err = her2d(*command, "nomag")
    assert (code, err) == (
        1,
        f"her2d: There is no result for nomag.tif. Its job {job.id} is quarantined."
        " It states no magnification.\n",
    )


def test_heatmap_copies_the_png(scanned, tmp_path):
    target = tmp_path / "copy.png"
    assert scanned.run("heatmap", "a", "-o", target).exit_code == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_heatmap_without_output_says_where_it_is(scanned):
    assert scanned.run("heatmap", "a").stdout.strip().endswith(".png")


@pytest.mark.parametrize("command", [("heatmap",), ("export", "--format", "png", "-o", "x.png")])
def test_a_heatmap_that_is_missing_is_one_clear_line(scanned, her2d, command):
    path = scanned.run("heatmap", "a").stdout.strip()
    Path(path).unlink()
    code, _, err = her2d(*command, "a")
    assert (code, err) == (
        1,
        f"her2d: The heatmap of a.tif is missing. It was written to {path}.\n",
    )


def test_a_quarantined_file_can_be_retried_and_cancelled(laboratory, tmp_path, her2d):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no slide at all")
    laboratory.run("scan", bad)
    (job,) = laboratory.json("queue", "ls")
    assert laboratory.run("queue", "retry", job["id"]).exit_code == 0
    assert laboratory.json("queue", "ls")[0]["state"] == "queued"
    assert laboratory.run("queue", "cancel", job["id"]).exit_code == 0
    assert laboratory.json("queue", "ls")[0]["reason"] == "Cancelled by an operator."
    assert her2d("queue", "retry", 99)[0] == 1


def test_bundle_info_prints_the_manifest(laboratory):
    assert laboratory.json("bundle", "info")["name"] == "colors"
    assert "colours" in laboratory.run("bundle", "info").stdout


def test_bundle_verify_says_that_nothing_was_altered(laboratory):
    assert "is unaltered" in laboratory.run("bundle", "verify").stdout


def test_verifying_a_folder_without_a_bundle_is_reported_in_one_clear_line(her2d, tmp_path):
    code, _, err = her2d("bundle", "verify", tmp_path)
    assert code == 1
    assert "no readable model bundle" in err


def test_the_version_is_printed(laboratory):
    from typer.testing import CliRunner

    from her2d.cli.app import app

    assert CliRunner().invoke(app, ["--version"]).stdout == f"her2d {__version__}\n"


def test_every_listing_is_json_on_request(scanned):
    for command in (("results",), ("queue", "ls"), ("bundle", "info"), ("show", "a")):
        json.dumps(scanned.json(*command))


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_tables_show_local_time_and_barcode_and_programs_get_utc(scanned, in_berlin, tmp_path):
    moments = ("2026-10-25T00:30:00.000000Z", "2026-10-25T01:30:00.000000Z")
    with closing(open_database(scanned.database)) as db:
        for name, moment in zip(("a.tif", "b.tif"), moments, strict=True):
            db.execute(
                "update runs set finished_at = ?"
                " where slide_id = (select id from slides where file_name = ?)",
                [moment, name],
            )
    # The clock shows half past two twice in that night.
    printed = scanned.run("results").stdout
    assert re.search(r" a\.tif .* 2026-10-25 02:30 \+02:00  a ", printed)
    assert re.search(r" b\.tif .* 2026-10-25 02:30 \+01:00  b ", printed)
    shown = scanned.run("show", "b.tif").stdout
    assert re.search(r"^finished_at +2026-10-25 02:30:00 \+01:00$", shown, re.MULTILINE)
    assert "finished (+01:00)" in shown
    report = tmp_path / "b.html"
    scanned.run("export", "b.tif", "--format", "html", "-o", report)
    assert "2026-10-25 02:30:00 +01:00" in report.read_text()
    assert scanned.json("show", "b.tif")["finished_at"] == moments[1]
    (row,) = csv.DictReader(io.StringIO(scanned.run("results", "--csv", "--text", "b.").stdout))
    assert row["finished_at"] == moments[1]
    fhir = tmp_path / "b.json"
    scanned.run("export", "b.tif", "--format", "fhir", "-o", fhir)
    assert "2026-10-25T01:30:00" in fhir.read_text()
    found = scanned.json("results", "--until", "2026-10-25T02:00")
    assert found == []
    assert len(scanned.json("results", "--since", "2026-10-25", "--until", "2026-10-25")) == 2
