"""TOML, SQL, Python and JSON in the documentation work."""

import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from documentation import ROOT, Example, examples_in

from her2d.db.connection import open_database
from her2d.research.training.encoders import read_description
from her2d.research.training.recipe import read_recipe
from her2d.results.outcome_csv import COLUMNS, read_outcomes
from her2d.settings import Settings, load_settings
from tools.docs.example_site import ExampleSite


@pytest.mark.parametrize("example", examples_in("toml"), ids=str)
def test_toml_loads_as_settings_a_recipe_or_an_encoder(example: Example, tmp_path: Path):
    file = tmp_path / "example.toml"
    file.write_text(example.text)
    sections = set(tomllib.loads(example.text))
    if sections <= set(Settings.model_fields):
        load_settings(file)
    elif "layout" in sections:
        assert read_description(file).layout in ("NCHW", "NHWC")
    else:
        read_recipe(file)


@pytest.mark.parametrize("example", examples_in("sql"), ids=str)
def test_sql_runs_on_an_empty_database(example: Example, tmp_path: Path):
    with closing(open_database(tmp_path / "her2d.sqlite")) as db:
        for statement in filter(str.strip, example.text.split(";")):
            db.execute(statement).fetchall()


@pytest.mark.parametrize("example", examples_in("python"), ids=str)
def test_python_runs_beside_a_slide_a_database_and_the_bundle(
    example: Example, site: ExampleSite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(site.folder)
    exec(compile(example.text, str(example), "exec"), {"__name__": "__main__"})


def _is_of_outcomes(example: Example) -> bool:
    return "ihc" in example.text.partition("\n")[0].split(",")


@pytest.mark.parametrize("example", [*filter(_is_of_outcomes, examples_in("csv"))], ids=str)
def test_outcomes_can_be_imported(example: Example, tmp_path: Path):
    file = tmp_path / "ihc.csv"
    file.write_text(example.text)
    good, bad = read_outcomes(file)
    assert len(good) == len(example.text.splitlines()) - 1
    assert bad == []


def test_the_columns_of_outcomes_are_all_explained():
    page = (ROOT / "docs/how-to/calibrate.md").read_text()
    assert [column for column in COLUMNS if f"`{column}`" not in page] == []


def test_there_is_an_example_of_each_kind():
    assert [kind for kind in ("toml", "sql", "python") if not examples_in(kind)] == []
