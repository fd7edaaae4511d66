"""`her2d train check|segmenter|classifiers|integrator|stain|mil|all`: train a study's models."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.cli.errors import UserError
from her2d.cli.extras import require_extra
from her2d.cli.options import StudyOption
from her2d.cli.terminal import say

if TYPE_CHECKING:
    from her2d.research.training.fit import FitResult
    from her2d.research.training.recipe import Recipe
    from her2d.research.training.study import Study

app = typer.Typer(help="Train the models of a prepared study.", no_args_is_help=True)

RecipeOption = Annotated[
    Path | None, typer.Option(help="TOML file with the differences from the paper's recipe.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set one value, such as classifier.learning_rate=1e-4; repeatable."),
]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(help="Models to train. Default: all of the recipe's.")
]
SelectOption = Annotated[str | None, typer.Option(help="Select this model, not the best one.")]


@app.command("check")
def check(recipe: RecipeOption = None, settings: SetOption = None) -> None:
    """Check that the recipe's networks fit in this machine's memory.

    Nothing is trained and no study is needed. The other commands check before they train.
    """
    require_extra("train", "her2d train check")
    from her2d.research.training.hardware import HardwareError, find_hardware
    from her2d.research.training.memory import GB, check_memory, needed
    from her2d.research.training.recipe import RecipeError, read_recipe

    try:
        how = read_recipe(recipe, tuple(settings or ()))
        found = needed(how, how.segmenters, how.classifiers)
        table = Table("network", "tiles a step", "memory", "TFLOP a tile", "device")
        for need in found:
            has = find_hardware(getattr(how, need.section))
            table.add_row(
                need.network,
                f"{has.devices} x {need.batch}",
                f"{need.memory / GB:.1f} of {has.free / GB:.1f} GB",
                f"{need.flop_per_tile / 1e12:.2f}",
                has.name,
            )
        Console().print(table)
        check_memory(found, how)
    except (HardwareError, RecipeError, ValueError) as error:
        raise UserError(str(error)) from error


@app.command("segmenter")
def segmenter(
    names: NamesArgument = None,
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Train the tumour segmenters.

    Their names are unet, segnet and deeplabv3plus. A stopped training is continued.
    """
    with _study("segmenter", study, recipe, settings, names) as (folder, how):
        _check_memory(folder, how, names or how.segmenters, ())
        _train_segmenters(folder, how, names)


@app.command("classifiers")
def classifiers(
    names: NamesArgument = None,
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Train the five sub-classifiers, fold by fold.

    Their networks are resnet18 to resnet152, densenet121, vit_b_16 and vit_b_32. A stopped training
    is continued.
    """
    with _study("classifiers", study, recipe, settings, names) as (folder, how):
        _check_memory(folder, how, (), names or how.classifiers)
        _train_classifiers(folder, how, names)


@app.command("integrator")
def integrator(
    names: NamesArgument = None,
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
    select_segmenter: SelectOption = None,
    select_classifier: SelectOption = None,
    select_integrator: SelectOption = None,
) -> None:
    """Fit the integrators and select the bundle's models.

    Integrators are fitted by grid search. One segmenter, one classifier and one integrator are
    selected.
    """
    selected = (select_segmenter, select_classifier, select_integrator)
    options = ("--select-segmenter", "--select-classifier", "--select-integrator")
    given = [
        word
        for option, name in zip(options, selected, strict=True)
        if name is not None
        for word in (option, name)
    ]
    words = [*(names or []), *given]
    with _study("integrator", study, recipe, settings, words) as (folder, how):
        _train_integrators(folder, how, names, selected)


@app.command("stain")
def stain(
    name: Annotated[str, typer.Argument(help="The classifier.")] = "resnet50",
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Measure what stain jitter and normalisation do to a classifier.

    Trains one fold four times: as in the recipe, without stain jitter, and on tiles normalised
    by Macenko's and by Reinhard's method. Tile AUROCs go to evaluation/stain.csv in the study.
    Bundles with normalisation cannot be made.
    """
    with _opened("stain", study, recipe, settings) as (folder, how):
        from her2d.research.evaluation.stain_comparison import compare_stains
        from her2d.research.training.memory import check_memory, needed

        check_memory(needed(how, [], [name]), how)
        table = Table("stain", "jitter", "split", "tiles", "AUROC", "95 % interval")
        for row in compare_stains(folder, how, name, say):
            table.add_row(
                row.stain,
                f"{row.jitter:g}",
                row.split,
                str(row.tiles),
                f"{row.auroc.value:.3f}",
                f"{row.auroc.low:.3f} - {row.auroc.high:.3f}",
            )
        Console().print(table)


@app.command("mil")
def mil(
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Train the baseline that learns from slide labels alone.

    Gated-attention multiple-instance learning on features of tumour tiles, from the selected
    classifier or from an ONNX encoder (mil.encoder). her2d evaluate then measures it too.
    """
    with _study("mil", study, recipe, settings, None) as (folder, how):
        from her2d.research.training.mil import train_mil

        console = Console(stderr=True)
        with console.status("making features") as status:
            found, decision = train_mil(folder, how, progress=status.update)
        for result in found:
            _print_fit(result)
        say(
            f"A slide is positive from p = {decision.threshold:.3f} on, chosen on {decision.slides}"
            f" {decision.chosen_on} ({decision.positive} positive); {decision.encoder}."
        )


@app.command("all")
def everything(
    study: StudyOption = Path("study"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Train all models of the recipe and select the best ones."""
    with _study("all", study, recipe, settings, None) as (folder, how):
        from her2d.research.training.fit import is_rank_zero

        _check_memory(folder, how, how.segmenters, how.classifiers)
        _train_segmenters(folder, how, None)
        _train_classifiers(folder, how, None)
        if is_rank_zero():
            _train_integrators(folder, how, None, (None, None, None))


def _train_segmenters(study: "Study", recipe: "Recipe", names: list[str] | None) -> None:
    from her2d.research.training.train import train_segmenter

    progress = Console(stderr=True).is_terminal
    for name in names or recipe.segmenters:
        _print_fit(train_segmenter(study, recipe, name, show_progress=progress))


def _train_classifiers(study: "Study", recipe: "Recipe", names: list[str] | None) -> None:
    from her2d.method import FOLDS
    from her2d.research.training.gate_training import train_gate
    from her2d.research.training.train import train_classifier

    progress = Console(stderr=True).is_terminal
    train_gate(study, recipe, show_progress=progress)
    for name in names or recipe.classifiers:
        for fold in range(FOLDS):
            _print_fit(train_classifier(study, recipe, name, fold, show_progress=progress))


def _check_memory(
    study: "Study", recipe: "Recipe", segmenters: Iterable[str], classifiers: Iterable[str]
) -> None:
    """Refuse networks that are still to be trained and do not fit, before any is trained.

    After a training torch keeps a GPU's memory for the next one, and it would not count as free.
    """
    from her2d.method import FOLDS
    from her2d.research.training.fit import RESULT_FILE, is_rank_zero
    from her2d.research.training.memory import check_memory, needed

    if not is_rank_zero():
        return
    left = [
        [name for name in segmenters if not (study.segmenter(name) / RESULT_FILE).is_file()],
        [
            name
            for name in classifiers
            if not (study.classifier(name, FOLDS - 1) / RESULT_FILE).is_file()
        ],
    ]
    check_memory(needed(recipe, *left), recipe)


def _train_integrators(
    study: "Study",
    recipe: "Recipe",
    names: list[str] | None,
    selected: tuple[str | None, str | None, str | None],
) -> None:
    from her2d.research.training.model_selection import fit_integrators

    selection = fit_integrators(
        study,
        recipe,
        names or recipe.integrators,
        segmenter=selected[0],
        classifier=selected[1],
        integrator=selected[2],
        progress=lambda score: say(
            f"{score.name}: AUROC {score.auroc:.4f}, sensitivity {score.sensitivity:.4f},"
            f" specificity {score.specificity:.4f}"
        ),
    )
    say(
        f"Selected: {selection.segmenter}, {selection.classifier}, {selection.integrator};"
        f" the integrator was fitted on {selection.integrator_fitted_on}."
    )


@contextmanager
def _study(
    kind: str,
    folder: Path,
    recipe: Path | None,
    settings: list[str] | None,
    words: list[str] | None,
) -> "Iterator[tuple[Study, Recipe]]":
    """Open a study and its recipe, and record the command for the bundle's manifest at the end."""
    with _opened(kind, folder, recipe, settings) as (study, how):
        from her2d.research.training.fit import is_rank_zero
        from her2d.research.training.study import record_command

        yield study, how
        if is_rank_zero():
            given = ["--recipe", recipe.name] if recipe is not None else []
            given += [word for setting in settings or () for word in ("--set", setting)]
            record_command(study, shlex.join(["her2d", "train", kind, *(words or []), *given]))


@contextmanager
def _opened(
    kind: str, folder: Path, recipe: Path | None, settings: list[str] | None
) -> "Iterator[tuple[Study, Recipe]]":
    """Open a study and its recipe; an expected error becomes one sentence."""
    require_extra("train", f"her2d train {kind}")
    from her2d.research.training.encoders import EncoderError
    from her2d.research.training.fit import FitError, recipe_kept_if_refused
    from her2d.research.training.folds import FoldsError
    from her2d.research.training.hardware import HardwareError
    from her2d.research.training.integrators import IntegratorError
    from her2d.research.training.recipe import RecipeError, study_recipe
    from her2d.research.training.study import Study, StudyError

    try:
        with recipe_kept_if_refused(folder):
            yield Study(folder), study_recipe(folder, recipe, tuple(settings or ()))
    except (
        EncoderError,
        FitError,
        FoldsError,
        HardwareError,
        IntegratorError,
        RecipeError,
        StudyError,
    ) as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"Training stopped: {error}.") from error


def _print_fit(found: "FitResult") -> None:
    from her2d.research.training.fit import is_rank_zero

    if is_rank_zero():
        say(f"{found.name}: {_figures(found.validation)}, epoch {found.best_epoch + 1}")


def _figures(validation: dict[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'unknown' if value is None else f'{value:.4f}'}"
        for name, value in validation.items()
    )
