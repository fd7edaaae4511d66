"""`her2d evaluate`."""

import json

import pytest
from typer.testing import CliRunner

from her2d.cli.app import app, main
from tools.bundle_results.paper import COUNTS


def test_misdiagnosis_prints_the_papers_tables():
    found = CliRunner().invoke(app, ["evaluate", "misdiagnosis", "--counts", str(COUNTS), "--json"])
    assert found.exit_code == 0
    tests = json.loads(found.stdout)
    assert round(tests[3]["negative"]["chi_square"], 3) == 0.014
    assert tests[-2]["positive"]["chi_square"] is None


def test_misdiagnosis_prints_na_for_a_feature_without_a_test():
    found = CliRunner().invoke(
        app, ["evaluate", "misdiagnosis", "--counts", str(COUNTS)], env={"COLUMNS": "160"}
    )
    assert "NA" in found.stdout
    assert "0.018" in found.stdout


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_features_and_levels_are_whole_at_any_width(width):
    found = CliRunner().invoke(
        app,
        ["evaluate", "misdiagnosis", "--counts", str(COUNTS)],
        env={"COLUMNS": width, "TTY_COMPATIBLE": "1"},
    )
    rows = [line for line in found.stdout.splitlines() if "Tertiary lymphoid structure" in line]
    assert len(rows) == 4
    assert all("Presence" in row or "Absence" in row for row in rows)


def test_a_missing_file_of_counts_is_reported_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["her2d", "evaluate", "misdiagnosis", "--counts", "none.csv"])
    with pytest.raises(SystemExit) as exit_code:
        main()
    assert exit_code.value.code == 1
    assert capsys.readouterr().err.startswith("her2d: none.csv cannot be read: ")
