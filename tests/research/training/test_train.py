"""Training and validation tiles of networks."""

from pathlib import Path

import numpy as np
import pytest

from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.folds import FoldsError, Grouping
from her2d.research.training.recipe import GateSource, IntegratorRecipe, Recipe
from her2d.research.training.study import Study
from her2d.research.training.tile_store import PreparedTile, slide_path, write_slide
from her2d.research.training.train import train_classifier, training_tiles

RECIPE = Recipe(gate=GateSource.ANNOTATED, integrator=IntegratorRecipe(kept_apart=0))


def slide(name: str, patient: str, status: Status) -> CohortSlide:
    return CohortSlide(
        name=name,
        patient=patient,
        he_path=Path(),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=status,
        split=Split.TRAIN,
        morphology={},
    )


@pytest.fixture
def study(tmp_path) -> Study:
    """Ten patients with tumour slides, five with one more without tumour, one with only that."""
    statuses = (Status.POSITIVE, Status.NEGATIVE)
    slides = [slide(f"S{n}", f"P{n}", statuses[n % 2]) for n in range(10)]
    slides += [slide(f"B{n}", f"P{n}", Status.INDETERMINATE) for n in range(5)]
    slides.append(slide("B10", "P10", Status.INDETERMINATE))
    found = Study(tmp_path)
    found.write_cohort(slides)
    found.tiles.mkdir()
    white = np.full((512, 512, 3), 255, np.uint8)
    for one in slides:
        tumor = np.full((512, 512), one.her2_status is not Status.INDETERMINATE, np.uint8)
        tile = PreparedTile(0, 0, white, tumor, 0)
        write_slide(
            slide_path(found.tiles, one.name), iter([tile]), expression_from="none", fingerprint={}
        )
    return found


def folds(study: Study, recipe: Recipe) -> dict[str, int]:
    tiles = training_tiles(study, recipe)
    return {one.name: int(f) for one, f in zip(tiles.slides, tiles.fold, strict=True)}


def test_slides_without_tumour_are_held_out_with_their_patients_others(study):
    fold = folds(study, RECIPE)
    assert [fold[f"B{n}"] for n in range(5)] == [fold[f"S{n}"] for n in range(5)]


def test_a_slide_without_tumour_is_always_learned_if_its_patient_has_no_other(study):
    assert folds(study, RECIPE)["B10"] == -1


def test_if_patients_may_be_in_two_folds_slides_without_tumour_are_always_learned(study):
    fold = folds(study, RECIPE.model_copy(update={"grouping": Grouping.SLIDE}))
    assert [fold[f"B{n}"] for n in range(5)] == [-1] * 5


def test_classifiers_see_nothing_of_slides_without_tumour(study):
    tiles = training_tiles(study, RECIPE)
    names = [tiles.slides[s].name for s in tiles.store.table.slide[tiles.classified]]
    assert names == [f"S{n}" for n in range(10)]


def test_a_fold_without_strong_tiles_is_refused_before_any_is_trained(study):
    last = {name for name, fold in folds(study, RECIPE).items() if fold == 4}
    tumor = np.ones((512, 512), np.uint8)
    white = np.full((512, 512, 3), 255, np.uint8)
    for one in study.cohort():
        labels = (0, 0) if one.name in last else (0, tumor.size)
        tiles = [PreparedTile(c, 0, white, tumor, strong) for c, strong in enumerate(labels)]
        write_slide(
            slide_path(study.tiles, one.name), iter(tiles), expression_from="none", fingerprint={}
        )
    with pytest.raises(FoldsError, match="Fold 4 holds out 0 strong and 4 weak"):
        train_classifier(study, RECIPE, "resnet18", 0)
    assert not (study.root / "classifiers").exists()
