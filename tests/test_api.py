"""The Python API, on the bundle that anyone can compute by hand."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from calibrations import write_calibration

import her2d
from her2d import Her2dError, Her2Status, Results, Scorer, load_bundle
from her2d.pipeline.outcome import TileClass


def test_the_package_exports_these_names_and_no_others():
    assert set(her2d.__all__) == {
        "Her2Status",
        "Her2dError",
        "Results",
        "Scorer",
        "__version__",
        "load_bundle",
        "open_slide",
    }
    assert all(getattr(her2d, name) is not None for name in her2d.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'score'"):
        her2d.score  # noqa: B018  the access is what is tested


def test_importing_the_package_loads_no_engine_and_changes_nothing_but_telemetry():
    script = """
import logging, os, sys
before = dict(os.environ)
import her2d
loaded = {name.partition(".")[0] for name in sys.modules} & {"onnxruntime", "numpy", "torch"}
changed = {key for key in os.environ if os.environ[key] != before.get(key)}
print(loaded, changed, logging.getLogger("tifffile").level)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={key: os.environ[key] for key in os.environ if key != "ORT_DISABLE_TELEMETRY"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "set() {'ORT_DISABLE_TELEMETRY'} 0"


def score_in_another_process(bundle, slide, *, before: str) -> subprocess.CompletedProcess[str]:
    script = f"""
import logging
from her2d import Scorer
{before}
with Scorer({str(bundle.directory)!r}, threads=1) as scorer:
    scorer.score({str(slide)!r})
"""
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )


def test_scoring_prints_nothing(color_bundle, write_slide):
    done = score_in_another_process(color_bundle, write_slide([".sS", "ww."]), before="")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_a_program_that_configures_logging_gets_the_log(color_bundle, write_slide):
    before = "logging.basicConfig(level=logging.INFO)"
    done = score_in_another_process(color_bundle, write_slide([".sS"]), before=before)
    assert done.stdout == ""
    assert "INFO:her2d.inference.selection:backend_chosen" in done.stderr


@pytest.fixture
def scorer(color_bundle):
    with Scorer(color_bundle.directory, threads=1) as scorer:
        yield scorer


def test_a_slide_is_scored(scorer, write_slide):
    score = scorer.score(str(write_slide([".sS", "ww."])))
    assert score.status is Her2Status.POSITIVE
    assert score.status == "positive"
    assert score.reason is None
    low, high = score.interval
    assert low <= score.percent <= high
    assert score.quality.tissue_mm2 > 0
    assert score.tiles.tile_class.shape == (2, 3)
    assert score.tiles.p_folds.shape == (2, 3, 5)
    assert (score.tiles.tile_class[0, 1:] != TileClass.BACKGROUND).all()
    assert (score.tiles.strong <= score.tiles.tumor).all()
    strong = score.tiles.tumor_pixels[score.tiles.strong].sum()
    assert score.percent == pytest.approx(
        100 * strong / score.tiles.tumor_pixels[score.tiles.tumor].sum()
    )


def test_a_slide_without_tumor_has_no_percent_and_no_interval(scorer, write_slide):
    score = scorer.score(write_slide(["..", ".."]))
    assert (score.status, score.percent, score.interval) == ("indeterminate", None, None)
    assert score.reason_code == "no-tumor"
    assert score.reason == "No tumour was found in any tile."


def test_a_score_draws_its_heatmap(scorer, write_slide):
    picture = scorer.score(write_slide(["SS", "ww"])).heatmap()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3


def test_a_scorer_takes_a_loaded_bundle_and_does_not_verify_it_again(color_bundle, files_hashed):
    with Scorer(load_bundle(color_bundle.directory), threads=1) as scorer:
        assert scorer.bundle.digest == color_bundle.digest
        assert scorer.backend == "onnxruntime"
    assert files_hashed == [
        color_bundle.segmenter,
        color_bundle.classifiers,
        color_bundle.integrator,
    ]


def test_a_bundle_may_be_named_by_a_text(color_bundle):
    assert load_bundle(str(color_bundle.directory)).digest == color_bundle.digest


def test_the_demonstration_bundle_scores_where_none_is_named_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Scorer(threads=1) as scorer:
        assert scorer.bundle.manifest.name == "her2net-demo"


def test_a_scorer_uses_the_calibration_beside_the_bundles_folder(
    color_bundle, write_slide, tmp_path
):
    folder = shutil.copytree(color_bundle.directory, tmp_path / "colors")
    slide = write_slide(["w"])
    with Scorer(folder, threads=1) as plain:
        assert plain.score(slide).send_to_ihc is None
    write_calibration(load_bundle(folder), from_percent=0)
    with Scorer(folder, threads=1) as calibrated:
        assert calibrated.score(slide).send_to_ihc is True
    write_calibration(load_bundle(folder), from_percent=4)
    with Scorer(folder, threads=1) as calibrated:
        assert calibrated.score(slide).send_to_ihc is False


def test_a_scorer_may_be_closed_twice_and_scores_nothing_afterwards(color_bundle, write_slide):
    scorer = Scorer(color_bundle.directory, threads=1)
    scorer.close()
    scorer.close()
    with pytest.raises(Her2dError, match="closed"):
        scorer.score(write_slide(["SS"]))


def test_every_foreseen_error_has_one_base(scorer, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"not a TIFF")
    with pytest.raises(Her2dError, match=r"a\.tif"):
        scorer.score(tmp_path / "a.tif")
    with pytest.raises(Her2dError, match="no readable model bundle"):
        Scorer(tmp_path)
    with pytest.raises(Her2dError, match="no database"):
        Results(tmp_path / "none.sqlite")
