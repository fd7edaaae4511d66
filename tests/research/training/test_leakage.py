"""The data that networks learned from is compared with the study's current data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from her2d.method import FOLDS
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.fit import RESULT_FILE, FitResult
from her2d.research.training.leakage import check_leakage
from her2d.research.training.lightning_module import AUROC, MIOU, SENSITIVITY
from her2d.research.training.model_selection import ModelSelection, check_selection, fit_integrators
from her2d.research.training.out_of_fold import fitting_digest, out_of_fold_predictions
from her2d.research.training.provenance import (
    PROVENANCE_FILE,
    Provenance,
    record_provenance,
)
from her2d.research.training.recipe import GateSource, IntegratorRecipe, NetworkRecipe, Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import PreparedTile, slide_path, write_slide
from her2d.research.training.train import classifier_task, segmenter_task, training_tiles

NONE_APART = IntegratorRecipe(kept_apart=0)
RECIPE = Recipe(gate=GateSource.ANNOTATED, integrator=NONE_APART)
WHITE, TUMOR = np.full((512, 512, 3), 255, np.uint8), np.ones((512, 512), np.uint8)


def slide(name: str, split: Split) -> CohortSlide:
    return CohortSlide(
        name=name,
        patient=f"P{name}",
        he_path=Path(name),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status.POSITIVE if int(name[1:]) % 2 else Status.NEGATIVE,
        split=split,
        morphology={},
    )


def prepared(study: Study, slides: list[CohortSlide]) -> None:
    study.write_cohort(slides)
    study.tiles.mkdir(exist_ok=True)
    for one in slides:
        tile = PreparedTile(0, 0, WHITE, TUMOR, TUMOR.size * (one.her2_status == "positive"))
        write_slide(
            slide_path(study.tiles, one.name), iter([tile]), expression_from="none", fingerprint={}
        )


def provenance(recipe: NetworkRecipe, data: str) -> Provenance:
    return Provenance(seed=1, recipe=recipe, normalization=RECIPE.normalization, data=data)


@pytest.fixture
def study(tmp_path) -> Study:
    """Twelve training slides, two test slides, and networks with the provenance of the former."""
    found = Study(tmp_path)
    training = [slide(f"S{n}", Split.TRAIN) for n in range(12)]
    prepared(found, [*training, slide("S20", Split.TEST), slide("S21", Split.TEST)])
    tiles = training_tiles(found, RECIPE)
    segmenter = provenance(RECIPE.segmenter, segmenter_task(tiles).digest())
    record_provenance(found.segmenter("unet"), "unet", segmenter)
    for fold in range(FOLDS):
        data = classifier_task(tiles, fold).digest()
        classifier = provenance(RECIPE.classifier, data)
        record_provenance(found.classifier("resnet18", fold), "resnet18", classifier)
    return found


def moved(study: Study, split: Split, names: tuple[str, ...] = ("S3", "S4")) -> None:
    study.write_cohort(
        [
            one.model_copy(update={"split": split} if one.name in names else {})
            for one in study.cohort()
        ]
    )


def check(study: Study) -> None:
    check_leakage(study, segmenters=["unet"], classifiers=["resnet18"])


def test_networks_of_the_current_training_slides_pass(study):
    check(study)


def test_a_test_slide_that_is_added_needs_no_training(study):
    prepared(study, [slide("S22", Split.TEST), *study.cohort(), slide("S23", Split.EXTERNAL)])
    check(study)


@pytest.mark.parametrize("split", [Split.TEST, Split.EXTERNAL, Split.INTEGRATOR])
def test_a_training_slide_that_is_moved_to_another_split_is_noticed(study, split):
    moved(study, split)
    with pytest.raises(StudyError, match="holds the folds of other slides"):
        check(study)


def test_a_moved_training_slide_is_noticed_even_if_the_folds_are_made_again(study):
    moved(study, Split.TEST)
    study.folds.unlink()
    training_tiles(study, RECIPE)
    with pytest.raises(StudyError, match="learned from other slides, labels or folds"):
        check(study)


def test_new_folds_are_noticed(study):
    study.folds.unlink()
    training_tiles(study, Recipe(seed=9, gate=GateSource.ANNOTATED, integrator=NONE_APART))
    with pytest.raises(StudyError, match="learned from other slides, labels or folds"):
        check(study)


def test_folds_made_again_with_the_same_seed_pass(study):
    study.folds.unlink()
    training_tiles(study, RECIPE)
    check(study)


def test_without_folds_leakage_cannot_be_excluded(study):
    study.folds.unlink()
    with pytest.raises(StudyError, match="Cannot check for leakage"):
        check(study)


def _missing(directory: Path) -> None:
    (directory / PROVENANCE_FILE).unlink()


def _incomplete(directory: Path) -> None:
    path = directory / PROVENANCE_FILE
    path.write_text(
        Provenance.model_validate_json(path.read_bytes()).model_dump_json(exclude={"data"})
    )


@pytest.mark.parametrize("change", [_missing, _incomplete])
def test_a_network_without_valid_provenance_is_refused(study, change: Callable[[Path], None]):
    change(study.classifier("resnet18", 4))
    with pytest.raises(StudyError, match=r"resnet18.4.provenance.json which slides"):
        check(study)


@pytest.mark.parametrize("seed", [RECIPE.seed, 9])
def test_an_integrator_is_not_fitted_on_slides_the_networks_learned_from(study, seed):
    if seed == RECIPE.seed:
        moved(study, Split.INTEGRATOR)
    study.folds.unlink()
    recipe = Recipe(seed=seed, gate=GateSource.ANNOTATED, integrator=NONE_APART)
    training_tiles(study, recipe)
    with pytest.raises(StudyError, match="learned from other slides, labels or folds"):
        out_of_fold_predictions(study, recipe, "resnet18")


def test_the_digest_of_the_integrators_data_depends_on_its_slides_only(study):
    of_folds = fitting_digest(study)
    prepared(study, [*study.cohort(), slide("S22", Split.TEST)])
    assert fitting_digest(study) == of_folds
    prepared(study, [*study.cohort(), slide("S30", Split.INTEGRATOR)])
    assert fitting_digest(study) != of_folds


def selected(study: Study) -> None:
    selection = ModelSelection(
        segmenter="unet",
        classifier="resnet18",
        integrator="rf",
        integrator_fitted_on="held-out slides",
        integrator_data=fitting_digest(study),
        overridden=(),
    )
    study.selection.write_text(selection.model_dump_json())
    study.integrators.mkdir()
    (study.integrators / "results.json").write_text("[]")


def test_a_slide_that_the_integrator_was_fitted_on_is_not_accepted_as_a_test_slide(study):
    prepared(study, [*study.cohort(), *(slide(f"S{n}", Split.INTEGRATOR) for n in (30, 31))])
    selected(study)
    check_selection(study, RECIPE)
    moved(study, Split.TEST, ("S30",))
    with pytest.raises(StudyError, match="integrator was fitted on other slides"):
        check_selection(study, RECIPE)


def with_results(study: Study, segmenter: str, classifiers: dict[str, float]) -> None:
    networks = {study.segmenter(segmenter): {MIOU: 0.9}}
    for name, auroc in classifiers.items():
        for fold in range(FOLDS):
            networks[study.classifier(name, fold)] = {AUROC: auroc, SENSITIVITY: 0.5}
    for directory, validation in networks.items():
        directory.mkdir(parents=True, exist_ok=True)
        result = FitResult(
            name=directory.name,
            recipe=RECIPE.segmenter,
            seed=1,
            best_epoch=0,
            epochs=1,
            validation=validation,
            normalization=RECIPE.normalization,
        )
        (directory / RESULT_FILE).write_text(result.model_dump_json())


def test_models_are_not_selected_if_any_candidate_is_of_other_folds(study):
    with_results(study, "unet", {"resnet18": 0.9, "resnet34": 0.8})
    for fold in range(FOLDS):
        other = provenance(RECIPE.classifier, "0" * 64)
        record_provenance(study.classifier("resnet34", fold), "resnet34", other)
    with pytest.raises(StudyError, match=r"resnet34.0 learned from other slides"):
        fit_integrators(study, RECIPE, ["lr"])


def test_a_selected_network_that_the_recipe_no_longer_names_is_refused(study):
    selected(study)
    with pytest.raises(StudyError, match="no longer names unet"):
        check_selection(study, Recipe(segmenters=("segnet",)))
