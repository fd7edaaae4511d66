"""Tiles gated by a segmenter's predictions, as in service."""

from pathlib import Path

import numpy as np
import pytest
import torch

from her2d.method import FOLDS
from her2d.research.networks.build import build_segmenter
from her2d.research.networks.weights import save_weights
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.fit import RESULT_FILE, WEIGHTS_FILE, FitResult
from her2d.research.training.gate import Gate, check_gate, gated_as_in_service
from her2d.research.training.gate_training import train_gate
from her2d.research.training.leakage import check_leakage
from her2d.research.training.out_of_fold import fitting_digest
from her2d.research.training.recipe import GateSource, IntegratorRecipe, NetworkRecipe, Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import PreparedTile, slide_path, write_slide
from her2d.research.training.train import gated_training_tiles, open_tiles, train_segmenter

NETWORK = NetworkRecipe(
    learning_rate=1e-3,
    batch=4,
    max_epochs=1,
    crop=32,
    tiles_per_epoch=4,
    width_multiplier=0.0625,
    accelerator="cpu",
    loader_workers=0,
)
RECIPE = Recipe(segmenters=("unet",), segmenter=NETWORK, integrator=IntegratorRecipe(kept_apart=0))
ANNOTATED = RECIPE.model_copy(update={"gate": GateSource.ANNOTATED})
PADDED = 300


@pytest.fixture
def study(tmp_path) -> Study:
    """Ten training slides and a test slide: a tile of tumour, one without, one that is padded."""
    found = Study(tmp_path)
    slides = [
        CohortSlide(
            name=f"S{number}",
            patient=f"P{number}",
            he_path=Path(),
            ihc_path=None,
            annotation_path=Path(),
            her2_status=Status.POSITIVE if number % 2 else Status.NEGATIVE,
            split=Split.TEST if number == 10 else Split.TRAIN,
            morphology={},
        )
        for number in range(11)
    ]
    found.write_cohort(slides)
    found.tiles.mkdir()
    rng = np.random.default_rng(0)
    for slide in slides:
        tissue = [rng.integers(0, 250, (512, 512, 3), np.uint8) for _ in range(3)]
        tissue[2][PADDED:] = 255
        tumor = [np.full((512, 512), number == 0, np.uint8) for number in range(3)]
        tiles = [
            PreparedTile(n, 0, pixels, mask, int(mask.sum()) * (slide.her2_status == "positive"))
            for n, (pixels, mask) in enumerate(zip(tissue, tumor, strict=True))
        ]
        write_slide(
            slide_path(found.tiles, slide.name), iter(tiles), expression_from="none", fingerprint={}
        )
    return found


def call_everything_tumour(directory: Path) -> None:
    """Write a trained segmenter of which the last bias decides alone."""
    directory.mkdir(parents=True, exist_ok=True)
    network = build_segmenter("unet", width_multiplier=NETWORK.width_multiplier)
    bias = list(network.parameters())[-1]
    with torch.no_grad():
        bias.copy_(torch.tensor([-100.0, 100.0]))
    save_weights(network, directory / WEIGHTS_FILE)
    result = FitResult(
        name="unet",
        recipe=NETWORK,
        seed=1,
        best_epoch=0,
        epochs=1,
        validation={"miou": 0.5},
        normalization=RECIPE.normalization,
    )
    (directory / RESULT_FILE).write_text(result.model_dump_json())


def gate_with(study: Study, *pixels: int) -> None:
    saved = {f"S{number}": pixels for number in range(10)}
    study.gate.write_text(Gate(segmenter="unet", tumor_pixels=saved).model_dump_json())


def test_the_paper_gates_by_predictions_and_so_does_the_default():
    assert Recipe().gate is GateSource.PREDICTED


def test_classifiers_learn_from_the_tiles_that_are_predicted_to_be_tumour(study):
    gate_with(study, 0, 90_000, 0)
    tiles = gated_training_tiles(study, RECIPE)
    assert tiles.store.table.position[tiles.classified].tolist() == [1] * 10
    annotated = gated_training_tiles(Study(study.root), RECIPE).store.table
    assert annotated.tumor_pixels[:3].tolist() == [512 * 512, 0, 0]


def test_a_tile_predicted_to_be_tumour_where_none_was_annotated_is_weak(study):
    gate_with(study, 0, 90_000, 0)
    tiles = gated_training_tiles(study, RECIPE)
    assert not tiles.store.table.strong[tiles.classified].any()


def test_by_the_annotation_they_learn_from_annotated_tumour(study):
    tiles = gated_training_tiles(study, ANNOTATED)
    assert tiles.store.table.position[tiles.classified].tolist() == [0] * 10


def test_tiles_gated_otherwise_than_the_recipe_says_are_refused(study):
    with pytest.raises(StudyError, match="gated by the annotation, and the recipe's gate is pre"):
        check_gate(study, RECIPE)
    gate_with(study, 0, 0, 0)
    with pytest.raises(StudyError, match="gated by predictions, and the recipe's gate is annot"):
        check_gate(study, ANNOTATED)


def test_another_segmenter_in_service_than_in_training_is_refused(study):
    gate_with(study, 0, 0, 0)
    check_gate(study, RECIPE, "unet")
    with pytest.raises(StudyError, match="--select-segmenter unet"):
        check_gate(study, RECIPE, "segnet")


def test_classifiers_of_an_older_study_are_not_gated_afterwards(study):
    study.classifier("resnet18", 0).mkdir(parents=True)
    with pytest.raises(StudyError, match="remove the study's folder classifiers"):
        train_gate(study, RECIPE)


def test_predictions_of_other_tiles_are_refused(study):
    gate_with(study, 0, 0)
    with pytest.raises(StudyError, match="made for other tiles"):
        gated_training_tiles(study, RECIPE)


def test_slides_outside_the_folds_are_gated_by_the_bundles_segmenter_without_padding(study):
    gate_with(study, 0, 0, 0)
    call_everything_tumour(study.segmenter("unet"))
    (test,) = (slide for slide in study.cohort() if slide.split is Split.TEST)
    found = gated_as_in_service(study, open_tiles(study, [test]))
    assert found.table.gate_pixels.tolist() == [512 * 512, 512 * 512, PADDED * 512]


def test_the_integrators_data_are_other_data_after_another_gate(study):
    gate_with(study, 90_000, 0, 0)
    gated_training_tiles(study, RECIPE)
    before = fitting_digest(study)
    gate_with(study, 90_001, 0, 0)
    assert fitting_digest(study) != before


@pytest.mark.slow
def test_each_folds_tiles_are_predicted_by_a_segmenter_that_did_not_learn_from_them(study):
    train_segmenter(study, RECIPE, "unet")
    train_gate(study, RECIPE)
    saved = Gate.model_validate_json(study.gate.read_bytes())
    assert {name: len(pixels) for name, pixels in saved.tumor_pixels.items()} == {
        f"S{number}": 3 for number in range(10)
    }
    networks = {
        (study.gate_segmenter("unet", fold) / WEIGHTS_FILE).read_bytes() for fold in range(1, FOLDS)
    }
    assert len(networks) == FOLDS - 1
    check_leakage(study, segmenters=["unet"])
