"""Predictions of test slides by the bundle and by other integrators."""

import shutil
from pathlib import Path

import tifffile

from her2d.pipeline.rules import rules_of
from her2d.research.evaluation.slide_predictions import (
    integrator_prediction,
    predict_slides,
    slide_prediction,
)
from her2d.research.evaluation.tiles import load_model
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.study import Study


def test_the_bundles_integrator_predicts_a_damaged_slide_as_the_bundle_does(
    tmp_path, write_slide, color_bundle
):
    path = write_slide(["ww", "ws"])
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        at, size = page.dataoffsets[1], page.databytecounts[1]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * size)
    study = Study(tmp_path / "study")
    study.integrators.mkdir(parents=True)
    shutil.copyfile(color_bundle.integrator, study.integrators / "rf.skops")
    slide = CohortSlide(
        name="S1",
        patient="P1",
        he_path=path,
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status.NEGATIVE,
        split=Split.TEST,
        morphology={},
    )
    (found,) = predict_slides(color_bundle, [slide])
    # A quarter of the slide could be strong tumour.
    assert slide_prediction(found, None).predicted == "indeterminate"
    assert (
        integrator_prediction(
            load_model(study, "rf"), found, tile_cut=0.5, rules=rules_of(color_bundle)
        ).predicted
        == "indeterminate"
    )
