"""The settings of training, with the paper's values as defaults.

Values that the paper does not state, such as epochs, patience, normalisation and the sampling of
classes, are her2d's and are marked "Ours".
"""

import os
import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from her2d.bundle.manifest import Normalization
from her2d.errors import Her2dError
from her2d.method import FOLDS, TILE_PX
from her2d.research.training.folds import Grouping
from her2d.research.training.study import write_text
from her2d.system.files import read_bounded
from her2d.system.toml import parse_toml

RECIPE_FILE = "recipe.json"
_BARE_TEXT = re.compile(r"[\w./][\w./+-]*")

Positive = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]
AUTO: Auto = "auto"


class RecipeError(Her2dError):
    """The recipe cannot be used; `str(error)` names the key."""


class _Section(BaseModel):
    # JSON, in which a study keeps its recipe, has neither.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FitRecipe(_Section):
    """Training of a network by Adam on cross-entropy, until it no longer improves."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    max_epochs: Positive = 100
    """Most epochs. Ours."""
    patience: Positive = 10
    """Epochs without improvement of the validation metric after which training stops. Ours."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    sampling: Literal["as_is", "balanced"] = "as_is"
    """`as_is` samples everything once per epoch, `balanced` both classes equally often. Ours."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    devices: Positive | Auto = AUTO
    """Number of GPUs, between which each step's tiles are divided; the paper used two. `auto` takes
    all of this machine's."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    loader_workers: Annotated[int, Field(ge=0)] | Auto = AUTO
    """Processes that read and augment tiles for each GPU. `auto` divides the CPUs between them, up
    to 8 for each. Ours."""


class NetworkRecipe(FitRecipe):
    """Training of one kind of network on tiles (paper, sections 4.3 and 4.4)."""

    batch: Annotated[int, Field(ge=2)] = 32
    """Tiles per step over all devices; 64 for classifiers."""
    tiles_per_epoch: Positive | None = None
    """None means every tile once. Ours."""
    crop: Annotated[int, Field(ge=32, le=TILE_PX, multiple_of=32)] = TILE_PX
    """Side of the random crop of a tile, in pixels; 512 is the whole tile. Ours."""
    stain_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Largest relative change of the amounts of haematoxylin and eosin, see `augment`; 0 leaves
    the stain as it is. Ours."""
    width_multiplier: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Scales hidden channel counts; 1.0 is the published network. A Vision Transformer's number of
    heads is scaled, so that 0.5 is ViT-S and 0.25 is ViT-Ti. Ours."""
    weights: Path | dict[str, Path] | None = None
    """Safetensors file with initial weights, or a table with a file for each network by its name,
    such as `{ resnet50 = "resnet50.safetensors" }`; networks without one are initialised at random.
    SegNet also takes the weights of a VGG16 with batch normalisation for its encoder, and
    DeepLabv3+ those of a ResNet-101, as torchvision publishes them. Positions of a
    Vision Transformer are interpolated to those of a tile."""

    @property
    def weights_file(self) -> Path | None:
        """File with the initial weights of the only network; None initialises at random.

        Raises:
            ValueError: There are files for several networks, see `of_network`.
        """
        if isinstance(self.weights, dict):
            raise ValueError("the recipe has initial weights for several networks")
        return self.weights

    def of_network(self, name: str) -> "NetworkRecipe":
        """Return the recipe of one network, with its own initial weights only."""
        if not isinstance(self.weights, dict):
            return self
        return self.model_copy(update={"weights": self.weights.get(name)})


class MilRecipe(FitRecipe):
    """Training of the baseline that learns from slide labels (Ilse et al. 2018), ours altogether.

    A step is one slide, so that several GPUs and loaders would not help.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    devices: Literal[1] = 1
    loader_workers: Literal[0] = 0
    encoder: Path | None = None
    """TOML file that describes an ONNX encoder of tiles. None takes the features of the selected
    tile classifier, which its last layer reads."""
    hidden: Positive = 256
    """Channels to which a tile's features are reduced."""
    attention: Positive = 128
    """Channels of the gated attention."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the reduced channels that a training step leaves out."""
    tiles_per_slide: Positive = 1024
    """Most tiles of a slide in a training step; of more, as many are drawn at random."""


Evidence: TypeAlias = Literal["few_tiles", "disagreement", "near_cut"]
ClassWeight: TypeAlias = Literal["balanced", "none"]


class IntegratorRecipe(_Section):
    """Fitting and selection of the integrator (paper, section 4.5)."""

    auroc_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.013
    """AUROCs this close count as equal, and sensitivity decides. The paper's eight range from
    0.9769 to 0.9898, "with little difference"."""
    folds: Annotated[int, Field(ge=2)] = FOLDS
    """Folds of the grid search, grouped by patient; at most one for each patient."""
    kept_apart: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of the training patients whose slides are kept apart from the folds, to fit the
    integrator on and to choose its tile cut and the interval of P. 0 keeps none apart: the
    integrator is fitted on out-of-fold predictions, and never sees how much the five
    sub-classifiers disagree. A cohort with slides in the split `integrator` uses those. Ours."""
    class_weight: ClassWeight = "none"
    """`none` gives every tile the same weight, so that probabilities are those of the cohort.
    `balanced` gives all strong tiles together the same weight as all weak ones, and probabilities
    are those of a cohort of which half is strong. The paper does not mention weights."""
    interval_evidence: tuple[Evidence, ...] = ("few_tiles", "disagreement", "near_cut")
    """What may widen the interval of P: few tumour tiles, disagreement of the five
    sub-classifiers, and tiles near the tile cut. Without `disagreement` the interval fits each
    slide less closely, but `[inference] run_all_classifiers = false` can be used. Ours."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of HER2-positive slides among a laboratory's slides with tumour, which the interval's
    coverage, the rule-out threshold and the decision curves are for. Set it where slides were
    chosen to have more positive ones; they are then weighted. None takes the share that they have.
    Ours."""


class GateSource(StrEnum):
    """What decides which tiles are tumour tiles in training."""

    PREDICTED = "predicted"
    ANNOTATED = "annotated"


class Recipe(_Section):
    """All settings that determine a study's models."""

    seed: int = 2025
    grouping: Grouping = Grouping.PATIENT
    gate: GateSource = GateSource.PREDICTED
    """What decides which tiles classifiers and integrators learn from: more than 10 % `predicted`
    tumour, as in service and in the paper (section 4.3), or more than 10 % `annotated` tumour.
    Predictions are of segmenters that did not learn from the slide, so that `predicted` trains four
    more segmenters."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of each channel on the 0..1 scale; ImageNet's by default. Ours."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel, likewise. Ours."""
    segmenters: tuple[str, ...] = ("unet", "segnet", "deeplabv3plus")
    classifiers: tuple[str, ...] = (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "densenet121",
        "vit_b_32",
    )
    """The paper's six, and a Vision Transformer as a baseline, which is ours. `vit_b_16` can be
    named too, and takes five times as long."""
    integrators: tuple[str, ...] = (
        "lr",
        "dt",
        "svm",
        "rf",
        "adaboost",
        "gbdt",
        "xgboost",
        "soft_voting",
        "mean",
    )
    segmenter: NetworkRecipe = NetworkRecipe()
    classifier: NetworkRecipe = NetworkRecipe(batch=64)
    integrator: IntegratorRecipe = IntegratorRecipe()
    mil: MilRecipe = MilRecipe()

    @field_validator("segmenters", "classifiers", "integrators")
    @classmethod
    def _are_named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("name at least one")
        if doubled := [name for name, times in Counter(names).items() if times > 1]:
            raise ValueError(f"name {doubled[0]} only once")
        return names

    @model_validator(mode="after")
    def _weights_belong_to_networks_of_the_recipe(self) -> "Recipe":
        for section, names in (
            (self.segmenter, self.segmenters),
            (self.classifier, self.classifiers),
        ):
            given = section.weights if isinstance(section.weights, dict) else {}
            if unknown := sorted(given.keys() - set(names)):
                raise ValueError(f"there are weights for {unknown[0]}, which the recipe leaves out")
        return self

    @property
    def normalization(self) -> Normalization:
        """Normalisation of the tiles, the same in training and in the bundle."""
        return Normalization(mean=self.mean, std=self.std)


def read_recipe(path: Path | None, settings: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe: the paper's values, changed by a TOML file and then by settings.

    Args:
        path: TOML file with fields of `Recipe`; None leaves the defaults.
        settings: Assignments such as `classifier.learning_rate=1e-4`, with the value in TOML. A
            plain name or path does not need quotes.

    Raises:
        RecipeError: The file cannot be read, or a key or value is not valid.
    """
    try:
        values: dict[str, Any] = parse_toml(read_bounded(path)) if path is not None else {}
    except (OSError, ValueError) as error:
        raise RecipeError(f"Cannot read the recipe: {error}.") from error
    return _changed(values, settings)


def study_recipe(study: Path, path: Path | None, settings: tuple[str, ...] = ()) -> Recipe:
    """Read the recipe of a study, or replace it by a file's, then change it by settings.

    The resulting recipe is saved in the study.

    Args:
        study: Folder of the study.
        path: TOML file that replaces the saved recipe; None keeps the saved one.
        settings: Assignments, see `read_recipe`.

    Raises:
        RecipeError: As `read_recipe`, or the study does not exist.
        OSError: The recipe cannot be saved.
    """
    saved = study / RECIPE_FILE
    if path is None and saved.is_file():
        recipe = _changed(_read_saved(saved), settings)
        if not settings:
            return recipe
    else:
        recipe = read_recipe(path, settings)
    if not study.is_dir():
        raise RecipeError(f"{study} is not a study. Run `her2d prepare` first.")
    save_recipe(study, recipe)
    return recipe


def save_recipe(study: Path, recipe: Recipe) -> None:
    """Make a recipe the one that the commands of a study's folder use. Raises OSError."""
    write_text(study / RECIPE_FILE, recipe.model_dump_json(indent=1))


def _read_saved(path: Path) -> dict[str, Any]:
    try:
        return Recipe.model_validate_json(path.read_bytes()).model_dump()
    except (OSError, ValidationError) as error:
        raise RecipeError(
            f"{path} is not a valid recipe. Remove it to use the defaults."
        ) from error


def _changed(values: dict[str, Any], settings: tuple[str, ...]) -> Recipe:
    try:
        for setting in settings:
            _merge(values, _parsed(setting))
        # The default batch of classifiers differs; keep it if the section sets other keys only.
        classifier = values.setdefault("classifier", {})
        if isinstance(classifier, dict):
            classifier.setdefault("batch", 64)
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"In the recipe, {where + ': ' if where else ''}{said}.") from error
    except ValueError as error:
        raise RecipeError(
            f"The recipe's setting {setting!r} is not valid TOML: {error}."
        ) from error


def _parsed(setting: str) -> dict[str, Any]:
    """Parse KEY=VALUE as TOML, allowing plain names and paths without quotes.

    A shell would strip quotes from the command line.
    """
    try:
        return parse_toml(os.fsencode(setting))
    except ValueError:
        key, _, value = (part.strip() for part in setting.partition("="))
        if not _BARE_TEXT.fullmatch(value):
            raise
        return parse_toml(os.fsencode(f'{key} = "{value}"'))


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value
