"""`her2d simulate cohort` and its difficulties."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from her2d.cli.app import app


def simulate(folder: Path, *options: str) -> Result:
    size = ("--slides", "4", "--seed", "1", "--width", "1024", "--height", "1024", "--workers", "1")
    return CliRunner().invoke(app, ["simulate", "cohort", str(folder), *size, *options])


def columns(folder: Path) -> list[str]:
    with (folder / "cohort.csv").open(newline="") as file:
        return next(csv.reader(file))


def test_a_hard_cohort_has_its_own_magnifications(tmp_path):
    done = simulate(tmp_path, "--difficulty", "paper", "--magnification", "4")
    assert done.exit_code == 1
    assert str(done.exception) == (
        "--magnification cannot be used with --difficulty paper, whose slides have several."
    )
    assert list(tmp_path.iterdir()) == []


def test_another_difficulty_is_refused(tmp_path):
    done = simulate(tmp_path, "--difficulty", "hard")
    assert done.exit_code == 2
    assert "easy" in done.output


@pytest.mark.slow
def test_an_easy_cohort_has_the_columns_that_it_always_had(tmp_path):
    done = simulate(tmp_path)
    assert done.exit_code == 0, done.output
    assert "--annotations 'truth/{slide}.tif'" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort.csv", "he", "ihc", "truth"]
    assert columns(tmp_path) == [
        *("slide", "patient", "he_path", "ihc_path", "ihc_score", "fish", "her2_status", "split"),
        *("differentiation", "magnification"),
    ]
