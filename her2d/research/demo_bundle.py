"""Make `engines/her2net-demo` by simulating a cohort and training on it as the paper does.

Run it with `make demo-bundle` or `python -m her2d.research.demo_bundle`. The report is then in
`build/demo-bundle/study/evaluation`.
"""

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from her2d.bundle.loading import Bundle
from her2d.method import FOLDS, MAGNIFICATION, TILE_PX
from her2d.research.evaluation.evaluate import evaluate, write_report_pdf
from her2d.research.evaluation.pdf import PdfError
from her2d.research.evaluation.publish import publish
from her2d.research.training.cohort import read_cohort
from her2d.research.training.gate_training import train_gate
from her2d.research.training.integrators import INTEGRATORS
from her2d.research.training.mil import train_mil
from her2d.research.training.model_selection import fit_integrators
from her2d.research.training.prepare import LabelRules, prepare_study
from her2d.research.training.recipe import (
    GateSource,
    IntegratorRecipe,
    MilRecipe,
    NetworkRecipe,
    Recipe,
    save_recipe,
)
from her2d.research.training.study import Study, StudyError
from her2d.research.training.train import train_classifier, train_segmenter
from her2d.simulator.cohort import write_cohort, write_table
from her2d.simulator.paper_cohort import INTERNAL, SMALLEST_SIDE, Split, plan_splits
from her2d.simulator.plan import SlidePlan

INTENDED_USE = (
    "For demonstration on simulated slides. Not a medical device, not validated on any patient's"
    " tissue, not for diagnosis."
)
SEGMENTER, CLASSIFIER, INTEGRATOR = "segnet", "resnet18", "rf"
# Its figures stand beside the convolutional classifier's.
_COMPARED_CLASSIFIER = "vit_b_32"
# The paper's internal cohort (Table 1), which has fewer than the simulated splits.
_PREVALENCE = round(INTERNAL.positive, 3)
_BATCH = 12
_ARTEFACTS = 0.1
_PATHS = ("he_path", "ihc_path", "annotation_path")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the cohort, the networks and the training; the defaults are the demo bundle's.

    Attributes:
        slides: Slides of each split.
        positive: Fraction of HER2-positive slides of each split. It is larger than the paper's
            12.5 %, so that strong tiles are not rare in training, and sensitivity can be measured.
            The splits that the integrator is fitted to, and tested on, have the same. Its intervals
            are for the paper's share, see `IntegratorRecipe.prevalence`.
        calibration: Further slides of splits: the interval's calibration needs more than the
            integrator does.
        benign: Further slides of splits, without tumour. The least tumour of a call is measured on
            those that are kept apart for the integrator.
        width, height: Mean size of resections in pixels at 4x.
        enlarged: Every how many-th slide is scanned at 20x and 40x, by turns. Tiles of such scans
            do not have the noise and blur of tiles scanned at 4x, and networks trained on 4x scans
            alone do not find tumour in them.
        segmenter_width, classifier_width: Width multipliers of the networks.
        segmenter_steps, classifier_steps: Training steps.
        epochs: Training epochs of networks that read tiles.
        mil_epochs: Training epochs of the baseline that learns from slide labels.
        integrators: Integrators to compare; some need more strong tiles than others.
        integrator_folds: Folds of the integrator's grid search.
        gate: What decides which tiles are tumour tiles in training, as in `Recipe`. The predicted
            tumour needs five segmenters, which would take most of the build's time.
    """

    slides: Mapping[Split, int] = field(
        default_factory=lambda: {"train": 108, "integrator": 72, "test": 60, "external": 84}
    )
    positive: Mapping[Split, float] = field(
        default_factory=lambda: {"train": 0.45, "integrator": 0.3, "test": 0.3, "external": 0.3}
    )
    calibration: Mapping[Split, int] = field(default_factory=lambda: {"integrator": 60})
    benign: Mapping[Split, int] = field(
        default_factory=lambda: {"integrator": 12, "test": 8, "external": 8}
    )
    width: int = 2816
    height: int = 2304
    enlarged: int = 5
    segmenter_width: float = 1 / 8
    classifier_width: float = 1 / 8
    segmenter_steps: int = 600
    classifier_steps: int = 280
    epochs: int = 3
    mil_epochs: int = 40
    integrators: tuple[str, ...] = tuple(INTEGRATORS)
    integrator_folds: int = FOLDS
    gate: GateSource = GateSource.ANNOTATED


def demo_recipe(sizes: Sizes, seed: int) -> Recipe:
    """Return a recipe of narrow networks with a one-cycle learning rate.

    The weight decay is the paper's, scaled by the learning rate.

    Args:
        sizes: Sizes of the networks and the training.
        seed: The recipe's seed.
    """
    return Recipe(
        seed=seed,
        gate=sizes.gate,
        integrator=IntegratorRecipe(folds=sizes.integrator_folds, prevalence=_PREVALENCE),
        mean=(0.75, 0.60, 0.78),
        std=(0.16, 0.18, 0.12),
        segmenters=(SEGMENTER,),
        classifiers=(CLASSIFIER, _COMPARED_CLASSIFIER),
        integrators=sizes.integrators,
        segmenter=_network(
            3e-3, sizes.segmenter_steps, sizes.epochs, sizes.segmenter_width, crop=192
        ),
        classifier=_network(
            2e-3, sizes.classifier_steps, sizes.epochs, sizes.classifier_width, crop=TILE_PX
        ),
        mil=MilRecipe(
            learning_rate=1e-3,
            max_epochs=sizes.mil_epochs,
            sampling="balanced",
            accelerator="cpu",
            hidden=64,
            attention=32,
        ),
    )


def build(
    output: Path, work: Path, *, seed: int = 11, sizes: Sizes | None = None, console: Console
) -> Bundle:
    """Make the demo bundle.

    Files that are already in `work` are reused, so an interrupted build can be resumed. The report
    is written there too, as a page and, where that can be made, as a PDF.

    Args:
        output: The bundle's folder.
        work: Folder for the cohort and the study.
        seed: Seed of the simulation and the training.
        sizes: Sizes; None takes the defaults.
        console: Where progress is shown.

    Returns:
        The published bundle.

    Raises:
        StudyError: `work` holds other slides than these.
    """
    sizes = sizes or Sizes()
    table = _simulate(work, sizes, seed, console)
    study, recipe = Study(work / "study"), demo_recipe(sizes, seed)
    slides = read_cohort(table)
    with _bar(console, "preparing slides", len(slides)) as advance:
        prepare_study(study, slides, LabelRules(), progress=lambda _: advance())
    save_recipe(study.root, recipe)  # so that `her2d evaluate --study` and others go on with it
    shown = console.is_terminal
    console.print(train_segmenter(study, recipe, SEGMENTER, show_progress=shown).validation)
    train_gate(study, recipe, show_progress=shown)
    for name in recipe.classifiers:
        for fold in range(FOLDS):
            result = train_classifier(study, recipe, name, fold, show_progress=shown)
            console.print(result.name, result.validation)
    # The bundle shows the paper's method; the others are for comparison.
    selection = fit_integrators(
        study,
        recipe,
        recipe.integrators,
        segmenter=SEGMENTER,
        classifier=CLASSIFIER,
        integrator=INTEGRATOR,
    )
    console.print(selection)
    _, decision = train_mil(study, recipe, show_progress=shown)
    console.print(decision)
    evaluate(study, recipe, command=f"python -m her2d.research.demo_bundle --seed {seed}")
    try:
        console.print(f"report: {write_report_pdf(study)}")
    except PdfError as error:
        console.print(error)
    return publish(study, output, intended_use=INTENDED_USE)


def _network(
    learning_rate: float, steps: int, epochs: int, width: float, *, crop: int
) -> NetworkRecipe:
    return NetworkRecipe(
        learning_rate=learning_rate,
        weight_decay=1e-3 * learning_rate,
        precision=_precision(),
        batch=_BATCH,
        max_epochs=epochs,
        patience=epochs,
        schedule="one_cycle",
        sampling="balanced",
        tiles_per_epoch=max(_BATCH, _BATCH * steps // epochs),
        crop=crop,
        width_multiplier=width,
        accelerator="cpu",
        loader_workers=0,
    )


def _precision() -> Literal["32-true", "bf16-mixed"]:
    """Return bf16 where the processor has instructions for it, which trains 1.6 times as fast."""
    can = torch.cpu.get_capabilities()
    return "bf16-mixed" if can.get("avx512_bf16") or can.get("amx_bf16") else "32-true"


def cohort_plans(sizes: Sizes, seed: int) -> dict[Split, list[SlidePlan]]:
    """Plan the slides of each split, starting with those that take longest to simulate.

    Args:
        sizes: Numbers and sizes of the slides.
        seed: Seed of the simulation.

    Returns:
        Plans by name of the split.
    """
    plans = plan_splits(
        sizes.slides,
        seed,
        positive=sizes.positive,
        width=sizes.width,
        height=sizes.height,
        artefact_probability=_ARTEFACTS,
    )
    plans += plan_splits(
        sizes.benign,
        seed + 1,
        positive=dict.fromkeys(sizes.benign, 0.0),
        width=sizes.width,
        height=sizes.height,
        benign_fraction=1.0,
        artefact_probability=_ARTEFACTS,
    )
    plans += plan_splits(
        sizes.calibration,
        seed + 2,
        positive=sizes.positive,
        width=sizes.width,
        height=sizes.height,
        artefact_probability=_ARTEFACTS,
    )
    cohorts: dict[Split, list[SlidePlan]] = {split: [] for split in sizes.slides}
    for number, plan in enumerate(plans):
        turn, rest = divmod(number, sizes.enlarged)
        magnified = _magnified(plan, (20.0, 40.0)[turn % 2]) if rest == 0 else plan
        cohorts[cast(Split, plan.split)].append(magnified)
    for cohort in cohorts.values():
        cohort.sort(key=lambda plan: plan.magnification, reverse=True)
    return cohorts


def _magnified(plan: SlidePlan, magnification: float) -> SlidePlan:
    """Return the plan of a slide scanned at a higher magnification, of half the size."""
    half = 2 if plan.specimen == "resection" and plan.magnification == MAGNIFICATION else 1
    width, height = (max(side // half, SMALLEST_SIDE) for side in (plan.width, plan.height))
    return replace(plan, magnification=magnification, width=width, height=height)


def _simulate(work: Path, sizes: Sizes, seed: int, console: Console) -> Path:
    """Simulate a cohort for each split, and return the path of one table of all slides.

    Raises:
        StudyError: A split was simulated earlier with other slides.
    """
    cohorts = cohort_plans(sizes, seed)
    for split, plans in cohorts.items():
        table = work / split / "cohort.csv"
        if table.is_file():
            _check_slides(table, plans)
        else:
            with _bar(console, f"simulating {split}", len(plans)) as advance:
                write_cohort(work / split, plans, workers=2, progress=lambda _: advance())
    return _join_tables(work, list(cohorts))


def _check_slides(table: Path, plans: list[SlidePlan]) -> None:
    """Raise StudyError if a table is not that of these slides."""
    with tempfile.TemporaryDirectory() as folder:
        planned = Path(folder) / table.name
        write_table(planned, plans)
        if planned.read_bytes() != table.read_bytes():
            raise StudyError(
                f"{table} lists other slides than this build's: another seed or another version of"
                " her2d wrote it. Remove the folder above it, or name another one with --work."
            )


def _join_tables(work: Path, names: list[Split]) -> Path:
    rows = []
    for name in names:
        with (work / name / "cohort.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                paths = {key: f"{name}/{row[key]}" for key in _PATHS}
                rows.append(row | paths)
    with (work / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return work / "cohort.csv"


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def main(
    output: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path(
        "engines/her2net-demo"
    ),
    work: Annotated[
        Path,
        typer.Option(
            help="Folder for the cohort, the study and its report; an interrupted build resumes."
        ),
    ] = Path("build/demo-bundle"),
    seed: Annotated[int, typer.Option(help="Seed of the simulation and the training.")] = 11,
) -> None:
    """Simulate a cohort, train narrow networks on it and write the demo bundle."""
    console = Console()
    try:
        bundle = build(output, work, seed=seed, console=console)
    except StudyError as error:
        console.print(error)
        raise typer.Exit(1) from error
    console.print(bundle.manifest.measured)


if __name__ == "__main__":
    typer.run(main)
