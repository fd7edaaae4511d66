"""`her2d outcomes import`, `ls` and `template`."""

import csv
import io

import pytest
from many_slides import add_scored_slides
from typer.testing import CliRunner

from her2d.cli.app import app


@pytest.fixture
def scanned(laboratory, write_slide):
    """Slide model.tif, called positive, and m000 to m002 with P of 40, 2 and 5 %."""
    laboratory.run("scan", write_slide(["Sw"], "model.tif"))
    add_scored_slides(laboratory.database, [40, 2, 5])
    return laboratory


@pytest.fixture
def csv_file(tmp_path):
    def write(text: str):
        path = tmp_path / "ihc.csv"
        path.write_text(text)
        return path

    return write


def test_outcomes_are_imported_and_listed_with_the_slides_calls(scanned, csv_file, her2d):
    path = csv_file(
        "slide,ihc,fish,read_by\nm000,3+,,Dr A. Li\nm001.tif,2+,,\nm002,2+,amplified,\n"
    )
    code, out, err = her2d("outcomes", "import", path)
    assert (code, err) == (0, "")
    assert out == (
        "Imported outcomes of 3 slides: 3 are new, 0 replace an earlier one."
        " 0 were known already.\n"
    )
    listed = scanned.json("outcomes", "ls")
    assert [(o["file_name"], o["her2_outcome"], o["her2_status"]) for o in listed] == [
        ("m002.tif", "positive", "negative"),
        ("m001.tif", "equivocal", "negative"),
        ("m000.tif", "positive", "positive"),
    ]
    assert listed[-1]["read_by"] == "Dr A. Li"
    printed = scanned.run("outcomes", "ls").stdout
    assert "1 of them is equivocal (IHC 2+ without FISH) and counted in no rate." in printed


def test_each_bad_row_is_a_line_and_nothing_is_imported(scanned, csv_file, her2d):
    path = csv_file("slide,ihc\nm000,3+\nm001,5\nnobody,1+\n")
    code, out, err = her2d("outcomes", "import", path)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert lines[0] == "her2d: ihc.csv, line 3: ihc must be 0, 1+, 2+ or 3+ (found '5')."
    assert lines[1].startswith("her2d: ihc.csv, line 4: There is no result for a slide 'nobody'")
    assert lines[2] == "her2d: 2 of 3 rows of ihc.csv cannot be used, so none was."
    assert scanned.json("outcomes", "ls") == []
    assert "No outcomes match" in scanned.run("outcomes", "ls").stdout


def test_earlier_outcomes_are_listed_as_history(scanned, csv_file):
    scanned.run("outcomes", "import", csv_file("slide,ihc\nm000,2+\nm001,0\n"))
    scanned.run("outcomes", "import", csv_file("slide,ihc,fish\nm000,2+,amplified\n"))
    assert len(scanned.json("outcomes", "ls")) == 2
    history = scanned.json("outcomes", "ls", "--history", "--slide", "m000")
    assert [(o["her2_outcome"], o["is_current"]) for o in history] == [
        ("positive", True),
        ("equivocal", False),
    ]
    printed = scanned.run("outcomes", "ls", "--history", "--slide", "m000").stdout
    assert "equivocal (replaced)" in printed


def test_show_results_and_report_say_what_ihc_found(scanned, csv_file, tmp_path):
    scanned.run("outcomes", "import", csv_file("slide,ihc,ihc_percent\nmodel,3+,45\n"))
    assert scanned.json("show", "model")["her2_outcome"] == "positive"
    assert "IHC 3+: positive" in scanned.run("results").stdout
    report = tmp_path / "report.html"
    scanned.run("export", "model", "--format", "html", "-o", report)
    assert "IHC 3+: positive" in report.read_text()


def test_the_template_can_be_imported_as_it_is(laboratory, write_slide, tmp_path):
    laboratory.run("scan", write_slide(["Sw"], "gastric-002.tif"))
    text = CliRunner().invoke(app, ["outcomes", "template"]).stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert set(row) == {"slide", "ihc", "fish", "ihc_percent", "patient", "read_on", "read_by"}
    path = tmp_path / "template.csv"
    path.write_text(text)
    assert laboratory.run("outcomes", "import", path).exit_code == 0
    assert laboratory.json("show", "gastric-002")["fish"] == "amplified"
