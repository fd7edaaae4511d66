"""The recipe, with the paper's values as defaults."""

from pathlib import Path

import pytest

from her2d.research.networks.build import CLASSIFIERS, SEGMENTERS
from her2d.research.training.integrators import INTEGRATORS
from her2d.research.training.recipe import Recipe, RecipeError, read_recipe, study_recipe


def test_the_defaults_are_the_papers():
    recipe = Recipe()
    for network in (recipe.segmenter, recipe.classifier):
        assert (network.learning_rate, network.weight_decay) == (1e-5, 1e-3)
    assert (recipe.segmenter.batch, recipe.classifier.batch) == (32, 64)
    assert set(recipe.segmenters) == set(SEGMENTERS)
    # ViT-B/16 would take more hours than the paper's six, and has to be named.
    assert set(recipe.classifiers) == set(CLASSIFIERS) - {"vit_b_16"}
    assert set(recipe.integrators) == set(INTEGRATORS)


def test_a_file_and_then_settings_change_it(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 3\n[classifier]\nlearning_rate = 1e-4\n")
    recipe = read_recipe(path, ("classifier.patience=2", "seed=4"))
    assert (recipe.seed, recipe.classifier.learning_rate, recipe.classifier.patience) == (
        4,
        1e-4,
        2,
    )
    assert recipe.classifier.batch == 64


def test_a_name_or_a_path_in_a_setting_needs_no_quotes():
    recipe = read_recipe(
        None, ("segmenter.precision=bf16-mixed", "classifier.weights=/models/resnet50.safetensors")
    )
    assert recipe.segmenter.precision == "bf16-mixed"
    assert recipe.classifier.weights == Path("/models/resnet50.safetensors")


@pytest.mark.parametrize(
    "setting", ["classifier.learning_rat=1", "segmenter.crop=100", "grouping='doctor'", "seed"]
)
def test_an_unknown_setting_is_refused(setting):
    with pytest.raises(RecipeError, match="recipe"):
        read_recipe(None, (setting,))


@pytest.mark.parametrize("key", ["segmenters", "classifiers", "integrators"])
@pytest.mark.parametrize(
    ("names", "sentence"), [("[]", "name at least one."), ("['a', 'b', 'a']", "name a only once.")]
)
def test_a_list_of_models_names_at_least_one_and_each_once(key, names, sentence):
    with pytest.raises(RecipeError) as refused:
        read_recipe(None, (f"{key}={names}",))
    assert str(refused.value) == f"In the recipe, {key}: {sentence}"


def test_a_setting_changes_only_its_key_in_the_saved_recipe(tmp_path):
    given = tmp_path / "recipe.toml"
    given.write_text("mean = [0.75, 0.60, 0.78]\n[classifier]\npatience = 3\n")
    first = study_recipe(tmp_path, given)
    found = study_recipe(tmp_path, None, ("integrator.folds=2",))
    assert found.integrator.folds == 2
    assert found.model_copy(update={"integrator": first.integrator}) == first
    assert study_recipe(tmp_path, None) == found


def test_a_file_replaces_the_saved_recipe(tmp_path):
    study_recipe(tmp_path, None, ("seed=9",))
    given = tmp_path / "recipe.toml"
    given.write_text("[classifier]\npatience = 3\n")
    assert study_recipe(tmp_path, given).seed == Recipe().seed


def test_each_network_may_begin_with_its_own_weights(tmp_path):
    given = tmp_path / "recipe.toml"
    given.write_text(
        '[classifier.weights]\nresnet50 = "a.safetensors"\nresnet18 = "b.safetensors"\n'
    )
    recipe = study_recipe(tmp_path, given)
    assert study_recipe(tmp_path, None) == recipe
    found = {name: recipe.classifier.of_network(name) for name in recipe.classifiers}
    assert found["resnet50"].weights_file == Path("a.safetensors")
    assert found["resnet18"].weights_file == Path("b.safetensors")
    assert found["resnet34"].weights_file is None


def test_one_file_of_weights_is_every_networks():
    recipe = read_recipe(None, ("segmenter.weights=a.safetensors",))
    assert recipe.segmenter.of_network("unet").weights_file == Path("a.safetensors")


def test_weights_of_a_network_that_the_recipe_leaves_out_are_refused():
    with pytest.raises(RecipeError, match="In the recipe, there are weights for resnet5, which"):
        read_recipe(None, ('classifier.weights={resnet5="a.safetensors"}',))


def test_weights_of_one_network_are_no_part_of_anothers_recipe():
    one, other = (
        read_recipe(None, (f'classifier.weights={{resnet50="{file}"}}',)) for file in ("a", "b")
    )
    assert one.classifier.of_network("resnet18") == other.classifier.of_network("resnet18")


@pytest.mark.parametrize(
    "setting",
    [
        "segmenter.learning_rate=inf",
        "mil.weight_decay=inf",
        "mean=[nan, 0.5, 0.5]",
        "std=[inf, 1, 1]",
    ],
)
def test_numbers_that_a_study_cannot_keep_are_refused_and_its_recipe_stays(tmp_path, setting):
    recipe = study_recipe(tmp_path, None, ("seed=4",))
    with pytest.raises(RecipeError, match="finite number"):
        study_recipe(tmp_path, None, (setting,))
    assert study_recipe(tmp_path, None) == recipe
