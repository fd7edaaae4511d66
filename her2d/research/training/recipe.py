"""How models are trained: the paper's values as defaults, every one of them settable.

What the paper does not state (epochs, patience, normalisation, how classes are drawn) is ours and
marked so.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from her2d.bundle.manifest import Normalization
from her2d.errors import Her2dError
from her2d.research.training.folds import Grouping
from her2d.research.training.study import write_text

RECIPE_FILE = "recipe.json"
_BARE_TEXT = re.compile(r"[A-Za-z./][\w./+-]*")

Positive = Annotated[int, Field(ge=1)]


class RecipeError(Her2dError):
    """A recipe cannot be used; `str(error)` names the key."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkRecipe(_Section):
    """One kind of network (paper, sections 4.3 and 4.4: Adam, 1e-5, 1e-3, cross-entropy)."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    batch: Annotated[int, Field(ge=2)] = 32
    max_epochs: Positive = 100
    """Ours."""
    patience: Positive = 10
    """Epochs without a better validation figure after which training ends. Ours."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    sampling: Literal["as_is", "balanced"] = "as_is"
    """`balanced` draws both classes of tiles equally often. Ours."""
    tiles_per_epoch: Positive | None = None
    """None is every tile once. Ours."""
    crop: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = 512
    """Side of what is cut from a tile at random; 512 is the tile. Ours."""
    stain_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Ours, see `augment`."""
    width_multiplier: Annotated[float, Field(gt=0, le=1)] = 1.0
    weights: Path | None = None
    """A safetensors file to begin with."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    devices: Positive = 1
    """GPUs; the paper used two. The batch is what all of them take together."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    loader_workers: Annotated[int, Field(ge=0)] = 2


ClassWeight: TypeAlias = Literal["balanced", "none"]


class IntegratorRecipe(_Section):
    """The integrator's selection (paper, section 4.5)."""

    auroc_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.013
    """AUROCs so close are called equal, and sensitivity decides: the paper's eight spread from
    0.9769 to 0.9898, "with little difference"."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Of the grid search; grouped by patient."""
    class_weight: ClassWeight = "balanced"
    """`balanced` lets all strong tiles together weigh as much as all weak ones. That raises
    sensitivity; where most tiles are weak, more are called strong than there are, and P of
    equation 1 comes out higher. `none` weighs every tile the same. Ours."""


class Recipe(_Section):
    """Everything that decides what a study's models become."""

    seed: int = 2025
    grouping: Grouping = Grouping.PATIENT
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Normalisation, ImageNet's by default; the paper names none."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    segmenters: tuple[str, ...] = ("unet", "segnet", "deeplabv3plus")
    classifiers: tuple[str, ...] = (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "densenet121",
    )
    integrators: tuple[str, ...] = (
        "lr",
        "dt",
        "svm",
        "rf",
        "adaboost",
        "gbdt",
        "xgboost",
        "soft_voting",
    )
    segmenter: NetworkRecipe = NetworkRecipe()
    classifier: NetworkRecipe = NetworkRecipe(batch=64)
    integrator: IntegratorRecipe = IntegratorRecipe()

    @property
    def normalization(self) -> Normalization:
        """Of what networks see, in training as in the bundle."""
        return Normalization(mean=self.mean, std=self.std)


def read_recipe(path: Path | None, settings: tuple[str, ...] = ()) -> Recipe:
    """The paper's recipe, changed by a TOML file and then by settings.

    Args:
        path: TOML with the fields of `Recipe`; None leaves the defaults.
        settings: such as `classifier.learning_rate=1e-4`, the value as in TOML; a plain name or
            path needs no quotes.

    Raises:
        RecipeError: the file cannot be read, or a key or value is not one of a recipe's.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text()) if path is not None else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"The recipe cannot be read: {error}.") from error
    return _changed(values, settings)


def study_recipe(study: Path, path: Path | None, settings: tuple[str, ...] = ()) -> Recipe:
    """The study's recipe: the kept one, or the file's where one is given, changed by settings.

    What comes of it is kept.

    Raises:
        RecipeError: as `read_recipe`; or the study is not there.
    """
    kept = study / RECIPE_FILE
    if path is None and kept.is_file():
        recipe = _changed(_read_kept(kept), settings)
        if not settings:
            return recipe
    else:
        recipe = read_recipe(path, settings)
    if not study.is_dir():
        raise RecipeError(f"There is no study in {study}: run her2d prepare first.")
    write_text(kept, recipe.model_dump_json(indent=1))
    return recipe


def _read_kept(path: Path) -> dict[str, Any]:
    try:
        return Recipe.model_validate_json(path.read_bytes()).model_dump()
    except (OSError, ValidationError) as error:
        raise RecipeError(f"{path} is no recipe; remove it.") from error


def _changed(values: dict[str, Any], settings: tuple[str, ...]) -> Recipe:
    try:
        for setting in settings:
            _merge(values, _parsed(setting))
        # The paper's batch differs between the two kinds: a section given in part keeps it.
        values.setdefault("classifier", {}).setdefault("batch", 64)
        return Recipe.model_validate(values)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The recipe's setting {setting!r} is no TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RecipeError(f"The recipe's {where}: {first['msg']}.") from error


def _parsed(setting: str) -> dict[str, Any]:
    """KEY=VALUE as TOML, but a plain name or path needs no quotes: a shell would take them."""
    try:
        return tomllib.loads(setting)
    except tomllib.TOMLDecodeError:
        key, _, value = (part.strip() for part in setting.partition("="))
        if not _BARE_TEXT.fullmatch(value):
            raise
        return tomllib.loads(f'{key} = "{value}"')


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value
