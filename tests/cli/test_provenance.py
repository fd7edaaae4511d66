"""A result says what computed it."""

import csv
import io
import json
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import pytest

import her2d
from her2d import Scorer, __version__
from her2d.pipeline.software import software_of
from her2d.system.source_commit import source_commit


@pytest.fixture
def result(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "a.tif"))
    (result,) = laboratory.json("results")
    return result


def test_every_result_names_the_bundle_the_rules_and_the_software(result, color_bundle):
    expected = {
        "bundle_digest": color_bundle.digest,
        "threshold_percent": 10.0,
        "tile_cut": 0.5,
        "backend": "onnxruntime",
        "precision": "fp32",
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "scikit_learn_version": version("scikit-learn"),
        "software_version": __version__,
        "git_commit": source_commit(Path(her2d.__file__)),
        "um_per_px": 2.5,
        "magnification": 4.0,
        "magnification_source": "AppMag",
    }
    assert {name: result[name] for name in expected} == expected


def test_it_is_shown_listed_and_exported(result, laboratory, tmp_path):
    digest, runtime = result["bundle_digest"], f"onnxruntime {onnxruntime.__version__}, fp32"
    assert laboratory.json("show", "a")["bundle_digest"] == digest
    (row,) = csv.DictReader(io.StringIO(laboratory.run("results", "--csv").stdout))
    assert (row["bundle_digest"], row["runtime_version"]) == (digest, onnxruntime.__version__)
    laboratory.run("export", "a", "--format", "html", "-o", tmp_path / "a.html")
    report = (tmp_path / "a.html").read_text()
    assert digest[:12] in report
    assert runtime in report
    laboratory.run("export", "a", "--format", "fhir", "-o", tmp_path / "a.json")
    device = json.loads((tmp_path / "a.json").read_text())["entry"][0]["resource"]
    versions = {each["type"]["text"]: each["value"] for each in device["version"]}
    assert versions["model bundle digest"] == digest
    assert versions["runtime"] == runtime
    assert versions["scikit-learn"] == version("scikit-learn")


def test_the_precision_is_the_one_that_the_engine_runs_in():
    assert software_of("onnxruntime-int8").precision == "int8"
    assert software_of("onnxruntime").precision == "fp32"


def test_a_scorer_says_what_it_scores_with(color_bundle):
    with Scorer(color_bundle, threads=1) as scorer:
        assert (scorer.software.backend, scorer.software.precision) == ("onnxruntime", "fp32")
