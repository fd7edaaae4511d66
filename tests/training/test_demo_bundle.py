"""The command that makes the demo bundle, in small."""

import io

import pytest
from rich.console import Console

from her2d.bundle import load_bundle, load_integrator
from her2d.inference import open_engine
from her2d.training.demo_bundle import Sizes, build
from her2d.training.heldout import mean_iou

TINY = Sizes(
    train_slides=12,
    validation_slides=2,
    heldout_slides=4,
    width=1100,
    height=1100,
    segmenter_width=1 / 32,
    classifier_width=1 / 32,
    segmenter_steps=3,
    classifier_steps=2,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    found = build(
        folder / "bundle", folder / "work", seed=1, sizes=TINY, console=Console(file=io.StringIO())
    )
    return folder / "bundle", found


def test_the_bundle_loads_and_runs(built):
    bundle = load_bundle(built[0])
    load_integrator(bundle)
    open_engine(bundle, backend="auto", threads=1).close()


def test_the_manifest_says_what_was_measured_and_that_it_is_no_diagnosis(built):
    manifest = load_bundle(built[0]).manifest
    assert manifest.measured.slides == built[1].slides == 4
    assert manifest.measured.tile_auroc == pytest.approx(built[1].tile_auroc, abs=1e-4)
    assert "not for diagnosis" in manifest.intended_use
    assert "--seed 1" in manifest.training.command


def test_the_mean_iou_is_that_of_a_known_confusion_matrix():
    import numpy as np

    assert mean_iou(np.array([[50, 10], [20, 20]])) == pytest.approx((50 / 80 + 20 / 50) / 2)
