"""Calibrating a candidate's interval on slides that were kept apart."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tumor_tiles import tiles_of

from her2d.bundle.loading import load_bundle
from her2d.research.evaluation.annotated_share import AnnotatedShare, shares_of
from her2d.research.evaluation.held_out import HeldOutModels, HeldOutSlide, held_out_slides
from her2d.research.evaluation.interval_calibration import calibrate_interval, calibration_slides
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.integrators import fit_integrator, held_out_models
from her2d.research.training.out_of_fold import FoldProbabilities
from her2d.research.training.tile_store import PreparedTile, TileStore, slide_path, write_slide

AREA = 512 * 512


def model_of(strong_from: float):
    """An integrator that calls a tile strong from that mean of the five on."""
    p = np.repeat(np.linspace(0, 1, 201)[:, None], 5, axis=1)
    return LogisticRegression(C=1e6).fit(p, p[:, 0] >= strong_from)


def tile(column, tumor_pixels, strong_pixels) -> PreparedTile:
    tumor = np.zeros(AREA, np.uint8)
    tumor[:tumor_pixels] = 1
    return PreparedTile(
        column, 0, np.zeros((512, 512, 3), np.uint8), tumor.reshape(512, 512), strong_pixels
    )


@pytest.fixture
def store(tmp_path):
    def store(**slides) -> TileStore:
        for name, tiles in slides.items():
            numbered = [tile(column, *pixels) for column, pixels in enumerate(tiles)]
            path = slide_path(tmp_path / "tiles", name)
            path.parent.mkdir(exist_ok=True)
            write_slide(path, iter(numbered), expression_from="dab", fingerprint={})
        return TileStore(tmp_path / "tiles", list(slides))

    return store


def test_the_annotated_share_is_by_tiles_as_in_equation_1_and_by_area_as_in_ihc(store):
    found = shares_of(store(a=[(AREA, AREA // 4), (AREA, 3 * AREA // 4), (AREA // 20, AREA // 20)]))
    assert found["a"].by_tile == 0.5
    assert found["a"].by_area == pytest.approx(1.05 / 2.05, abs=1e-4)


def test_a_slide_with_tumor_that_is_not_labelled_or_without_any_has_no_share(store):
    found = shares_of(
        store(unlabelled=[(AREA, AREA), (AREA, -1)], none=[(0, 0)], benign=[(0, -1), (AREA, 0)])
    )
    assert found == {"benign": AnnotatedShare(0.0, 0.0)}


@pytest.fixture
def slides(write_slide):
    def slides(**pictures) -> list[CohortSlide]:
        return [
            CohortSlide(
                name=name,
                patient=f"patient of {name}",
                he_path=write_slide(rows, f"{name}.tif"),
                ihc_path=None,
                annotation_path=Path(),
                her2_status=Status.NEGATIVE,
                split=Split.INTEGRATOR,
                morphology={},
            )
            for name, rows in pictures.items()
        ]

    return slides


def test_slides_are_scored_by_the_pipeline_and_compared_by_area(color_bundle, slides):
    models = HeldOutModels(model_of(0.3), ())
    scored = held_out_slides(
        color_bundle,
        slides(a=["Swww"], unknown=["S"], none=["ss"]),
        {"a": AnnotatedShare(0.25, 0.1), "none": AnnotatedShare(0.0, 0.0)},
        models,
    )
    found = calibration_slides(scored, tile_cut=0.5)
    assert [(s.patient, s.share, s.annotated) for s in found] == [("patient of a", 0.25, 0.1)]
    assert found[0].evidence[0] == 0.5


def test_a_slide_is_scored_by_the_model_that_did_not_learn_from_its_patient(color_bundle, slides):
    models = HeldOutModels(
        model_of(0.3), ((frozenset({"patient of a"}), model_of(1.1e-3)), (frozenset({"x"}), None))
    )
    share = AnnotatedShare(0.5, 0.5)
    found = held_out_slides(
        color_bundle, slides(a=["Sw"], b=["Sw"]), {"a": share, "b": share}, models
    )
    assert [slide.tiles.share for slide in found] == [1.0, 0.5]


def test_each_patient_has_a_model_that_did_not_learn_from_it():
    rng = np.random.default_rng(0)
    strong = rng.random(400) < 0.3
    p = np.clip(strong[:, None] * 0.4 + rng.random((400, 5)) * 0.6, 0, 1).astype(np.float32)
    patient = np.array([f"P{number}" for number in np.arange(400) % 20])
    # What is learned from P7 alone would call everything strong.
    strong[patient == "P7"] = p[patient == "P7"].mean(axis=1) < 0.9
    tiles = FoldProbabilities(p, strong, patient)
    score = fit_integrator("lr", tiles, seed=1, folds=5, class_weight="none").score
    found = list(held_out_models(score, tiles, seed=1, folds=5, class_weight="none"))
    assert sorted(name for group, _ in found for name in group) == sorted(set(patient))
    model = next(model for group, model in found if "P7" in group)
    kept = patient != "P7"
    without = np.abs(model.predict_proba(p[kept])[:, 1] - strong[kept]).mean()
    others = [m for group, m in found if "P7" not in group]
    assert all(
        np.abs(other.predict_proba(p[kept])[:, 1] - strong[kept]).mean() > without
        for other in others
    )


def held_out(positive: int, negative: int) -> list[HeldOutSlide]:
    """Slides of as many patients that are all called as they are."""
    return [
        HeldOutSlide(
            f"P{n}",
            is_positive=n < positive,
            tiles=tiles_of(range(4), range(4), [n < positive] * 4),
            annotated=float(n < positive),
            pixel_mm2=1e-6,
        )
        for n in range(positive + negative)
    ]


@pytest.mark.parametrize(
    ("positive", "prevalence", "sentence"),
    [
        (20, None, "20 called positive and 40 called negative, each call by itself."),
        (
            9,
            None,
            "9 called positive (too few: the largest of their errors counts) and 40 called",
        ),
        (0, None, "none called positive (all slides count for it) and 40 called negative"),
        (
            40,
            0.125,
            "; 40 of them are HER2-positive, and they are weighted to a population of which 12.5 %"
            " are.",
        ),
        (0, 0.125, "not calibrated: slides of both HER2 statuses are needed to weigh them by a"),
        (1, 0.5, "not calibrated: 41 patients are too few to weigh slides by a prevalence of 50 %"),
    ],
)
def test_a_note_says_on_which_slides_the_interval_rests_or_why_there_is_none(
    color_bundle, tmp_path, positive, prevalence, sentence
):
    shutil.copytree(color_bundle.directory, tmp_path / "candidate")
    found = calibrate_interval(
        load_bundle(tmp_path / "candidate"), held_out(positive, 40), prevalence=prevalence, seed=1
    )
    assert sentence in found.note
    assert (found.bundle.manifest.interval is None) == ("not calibrated" in found.note)
