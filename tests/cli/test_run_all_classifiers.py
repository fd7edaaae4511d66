"""`[inference] run_all_classifiers = false`: the same results, and some empty probabilities."""

import csv
import json
import shutil
import tomllib

import numpy as np
import pytest
import tomli_w
from separable_bundle import write_separable_bundle

from her2d.api import Scorer
from her2d.bundle.loading import load_bundle
from her2d.settings import PACKAGE_DATA, load_settings
from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide

ROWS = ["SwS.", "hsSw", "wwtS"]
FOLDS = [f"p_fold_{fold}" for fold in range(1, 6)]
RUN_ALL = "HER2D_INFERENCE__RUN_ALL_CLASSIFIERS"


@pytest.fixture
def separable(color_bundle, tmp_path):
    return write_separable_bundle(color_bundle, tmp_path / "separable")


@pytest.fixture
def stopping(laboratory, separable, monkeypatch):
    """The laboratory with the setting and a bundle that allows it."""
    monkeypatch.setenv("HER2D_BUNDLE__PATH", str(separable.directory))
    monkeypatch.setenv(RUN_ALL, "false")
    return laboratory


def scores(laboratory, bundle, slide, monkeypatch):
    """The scores of a slide with early decisions, and with all sub-classifiers."""
    found = []
    for run_all in ("false", "true"):
        monkeypatch.setenv(RUN_ALL, run_all)
        with Scorer(bundle, settings=load_settings(laboratory.folder / "config.toml")) as scorer:
            assert scorer.processor.runs_all_because is None
            found.append(scorer.score(slide))
    return found


def assert_equal_where_computed(early, complete):
    assert early.outcome.score == complete.outcome.score
    assert np.array_equal(early.tiles.tile_class, complete.tiles.tile_class)
    computed = ~np.isnan(early.tiles.p_folds)
    assert np.array_equal(early.tiles.p_folds[computed], complete.tiles.p_folds[computed])
    known = ~np.isnan(early.tiles.p_strong)
    assert np.array_equal(early.tiles.p_strong[known], complete.tiles.p_strong[known])
    stopped = early.tiles.tumor & ~computed.all(axis=2)
    assert early.outcome.tiles_decided_early == stopped.sum() > 0
    assert complete.outcome.tiles_decided_early is None
    assert not np.isnan(complete.tiles.p_folds[complete.tiles.tumor]).any()


def test_each_tile_has_the_same_class_and_the_slide_the_same_result(
    laboratory, separable, write_slide, monkeypatch
):
    slide = write_slide(ROWS, "a.tif")
    assert_equal_where_computed(*scores(laboratory, separable, slide, monkeypatch))


@pytest.mark.slow
def test_a_simulated_slide_has_the_same_result_with_the_shipped_models(
    laboratory, tmp_path, monkeypatch
):
    """With a calibration that does not rest on the disagreement, which needs all of them."""
    slide = tmp_path / "new.tif"
    write_he_slide(plan_slide("new", 90210, her2_status="positive", width=1792, height=1536), slide)
    folder = tmp_path / "bundle"
    shutil.copytree(PACKAGE_DATA / "her2net-demo", folder)
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    manifest["interval"]["scale"]["disagreement"] = 0.0
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    early, complete = scores(laboratory, load_bundle(folder), slide, monkeypatch)
    assert early.outcome.score.ci_calibrated
    assert_equal_where_computed(early, complete)


@pytest.mark.slow
def test_what_was_not_computed_is_empty_in_every_export(stopping, write_slide, tmp_path):
    assert stopping.run("scan", write_slide(ROWS, "a.tif")).exit_code == 0
    (result,) = stopping.json("results")
    assert result["tiles_decided_early"] > 0
    for format_ in ("csv", "geojson", "parquet", "png", "ome-tiff", "fhir", "html"):
        done = stopping.run("export", "a", "--format", format_, "-o", tmp_path / format_)
        assert done.exit_code == 0, done.output

    rows = list(csv.DictReader((tmp_path / "csv").read_text().splitlines()))
    tumor = [row for row in rows if row["tile_class"] in ("weak", "strong")]
    stopped = [row for row in tumor if not all(row[fold] for fold in FOLDS)]
    assert len(stopped) == result["tiles_decided_early"]
    assert all(any(row[fold] for fold in FOLDS) for row in stopped)

    def refused(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "geojson").read_text()
    tiles = [
        one["properties"]["measurements"]
        for one in json.loads(text, parse_constant=refused)["features"]
        if one["properties"]["objectType"] == "tile"
    ]
    measured = sum(name.startswith("p(strong) fold") for tile in tiles for name in tile)
    assert measured == sum(bool(row[fold]) for row in tumor for fold in FOLDS)
    assert f"{result['tiles_decided_early']}: not all" in (tmp_path / "html").read_text()
    assert stopping.run("show", "a").exit_code == 0


def test_where_the_setting_has_no_use_the_log_and_doctor_say_why(
    laboratory, monkeypatch, write_slide
):
    monkeypatch.setenv(RUN_ALL, "false")
    why = "classifiers.onnx does not end with a step that joins the outputs of five networks."
    done = laboratory.run("scan", write_slide(["Sw"], "a.tif"))
    assert done.exit_code == 0
    (result,) = laboratory.json("results")
    assert result["tiles_decided_early"] is None
    (finding,) = (
        one for one in laboratory.json("doctor")["findings"] if one["check"] == "back end"
    )
    assert finding["severity"] == "warning"
    assert why in finding["message"]
    assert finding["remedy"].startswith("Set [inference] run_all_classifiers = true.")
