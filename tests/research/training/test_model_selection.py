"""Selection of the networks with the best validation metrics."""

from pathlib import Path

import pytest

from her2d.research.training.fit import FitResult
from her2d.research.training.lightning_module import AUROC, MIOU, SENSITIVITY
from her2d.research.training.model_selection import (
    ModelSelection,
    recipe_as_trained,
    select_classifier,
    select_segmenter,
)
from her2d.research.training.recipe import NetworkRecipe, Recipe
from her2d.research.training.study import Study, StudyError

RECIPE = Recipe(segmenters=("unet", "segnet"), classifiers=("resnet18", "resnet50"))


def trained(directory: Path, **validation: float | None) -> None:
    directory.mkdir(parents=True)
    result = FitResult(
        name=directory.name,
        recipe=NetworkRecipe(),
        seed=1,
        best_epoch=0,
        epochs=1,
        validation=validation,
        normalization=RECIPE.normalization,
    )
    (directory / "result.json").write_text(result.model_dump_json())


def classifier(study: Study, name: str, *aurocs: float | None) -> None:
    for fold, auroc in enumerate(aurocs):
        trained(study.classifier(name, fold), **{AUROC: auroc, SENSITIVITY: 0.5})


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path)


def test_the_classifier_of_the_best_mean_auroc_is_selected(study):
    classifier(study, "resnet18", 0.99, 0.5, 0.5, 0.5, 0.5)
    classifier(study, "resnet50", 0.7, 0.7, 0.7, 0.7, 0.7)
    assert select_classifier(study, RECIPE) == "resnet50"


def test_a_classifier_of_which_a_fold_is_missing_is_not_selected(study):
    classifier(study, "resnet18", 0.9, 0.9, 0.9, 0.9)
    classifier(study, "resnet50", 0.7, 0.7, 0.7, 0.7, 0.7)
    assert select_classifier(study, RECIPE) == "resnet50"
    with pytest.raises(StudyError, match="classifier resnet18 that the recipe names is trained"):
        select_classifier(study, RECIPE, "resnet18")


def test_a_fold_without_an_auroc_is_left_out_of_the_mean(study):
    classifier(study, "resnet18", None, 0.8, 0.8, 0.8, 0.8)
    classifier(study, "resnet50", 0.7, 0.7, 0.7, 0.7, 0.7)
    assert select_classifier(study, RECIPE) == "resnet18"


def test_the_segmenter_of_the_best_miou_is_selected_unless_another_is_named(study):
    trained(study.segmenter("unet"), **{MIOU: 0.8})
    trained(study.segmenter("segnet"), **{MIOU: 0.9})
    assert select_segmenter(study, RECIPE) == "segnet"
    assert select_segmenter(study, RECIPE, "unet") == "unet"


def test_a_classifier_that_the_recipe_no_longer_names_is_not_selected(study):
    classifier(study, "resnet18", 0.7, 0.7, 0.7, 0.7, 0.7)
    classifier(study, "resnet152", 0.9, 0.9, 0.9, 0.9, 0.9)
    assert select_classifier(study, RECIPE) == "resnet18"


def test_a_segmenter_that_the_recipe_no_longer_names_is_not_selected(study):
    trained(study.segmenter("unet"), **{MIOU: 0.8})
    trained(study.segmenter("deeplabv3plus"), **{MIOU: 0.9})
    assert select_segmenter(study, RECIPE) == "unet"


def test_the_recipe_as_trained_is_that_of_the_selected_networks(study):
    trained(study.segmenter("unet"), **{MIOU: 0.8})
    classifier(study, "resnet18", 0.7, 0.7, 0.7, 0.7, 0.7)
    selection = ModelSelection(
        segmenter="unet",
        classifier="resnet18",
        integrator="rf",
        integrator_fitted_on="held-out slides",
        integrator_data="",
        overridden=(),
    )
    changed = RECIPE.model_copy(
        update={
            "mean": (0.1, 0.1, 0.1),
            "std": (0.2, 0.2, 0.2),
            "segmenter": NetworkRecipe(sampling="balanced"),
            "classifier": NetworkRecipe(sampling="balanced", batch=64),
        }
    )
    assert recipe_as_trained(study, changed, selection) == RECIPE.model_copy(
        update={"segmenter": NetworkRecipe(), "classifier": NetworkRecipe()}
    )
