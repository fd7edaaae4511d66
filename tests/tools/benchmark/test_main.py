"""`python -m tools.benchmark` with the colour bundle."""

import json

import pytest

from tools.benchmark.__main__ import app

QUICK = ("--repeats", "1", "--pipeline-s", "0")


@pytest.fixture(autouse=True)
def environment_as_before(monkeypatch):
    """Undo the command's setting for OpenMP, which applies to the whole process."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")


@pytest.mark.slow
def test_the_same_run_is_a_table_json_and_markdown(laboratory, write_slide, tmp_path):
    files = ("--json", tmp_path / "b.json", "--markdown", tmp_path / "b.md")
    slide = write_slide(["Sws"])
    result = laboratory.run(
        "--batch", "1", "--batch", "2", "--slide", slide, *QUICK, *files, command=app
    )
    assert result.exit_code == 0
    assert "Tiles per second" in result.stdout
    report = json.loads((tmp_path / "b.json").read_text())
    assert (report["bundle"], report["slide"], report["tissue_tiles"]) == (
        "colors 1",
        "slide.tif",
        3,
    )
    assert {row["batch"] for row in report["rows"]} == {1, 2}
    assert set(report["rows"][0]["segmenter"]["tiles_per_s"]) == {"median", "least", "most"}
    markdown = (tmp_path / "b.md").read_text()
    assert markdown.startswith("## python -m tools.benchmark, colors 1\n")
    assert "| onnxruntime fp32 | 1 |" in markdown
    assert "| tensorrt | 1, 2 | " in markdown


@pytest.mark.slow
def test_the_simulated_slide_is_all_tissue(laboratory, tmp_path):
    laboratory.run("--batch", "4", *QUICK, "--json", tmp_path / "b.json", command=app)
    assert json.loads((tmp_path / "b.json").read_text())["tissue_tiles"] == 64


@pytest.mark.slow
def test_only_the_requested_back_ends_are_measured(laboratory, write_slide, tmp_path):
    requested = ("--only", "onnxruntime", "--only", "tensorrt_rtx")
    slide = ("--slide", write_slide(["Sws"]), "--json", tmp_path / "b.json")
    laboratory.run("--batch", "2", *QUICK, *requested, *slide, command=app)
    report = json.loads((tmp_path / "b.json").read_text())
    reported = {each["name"] for each in report["rows"] + report["skipped"]}
    assert reported == {"onnxruntime fp32", "onnxruntime int8", "tensorrt_rtx"}


def test_an_unknown_back_end_is_an_error_that_lists_the_known_ones(her2d):
    code, _, err = her2d("--only", "torch", "--only", "nowhere", command=app)
    assert code == 1
    assert "begins with 'nowhere'. Choose from 'tensorrt', 'tensorrt_rtx'" in err


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_one_clear_line(her2d, write_slide, tmp_path):
    nowhere = tmp_path / "nowhere" / "b.json"
    arguments = ("--batch", "1", "--slide", write_slide(["Sws"]), *QUICK, "--json", nowhere)
    code, _, err = her2d(*arguments, command=app)
    assert code == 1
    assert "b.json cannot be written: No such file or directory." in err
