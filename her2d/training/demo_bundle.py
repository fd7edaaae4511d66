"""The command that makes `engines/her2net-demo`: simulate, train, export, measure, write.

make demo-bundle        or        python -m her2d.training.demo_bundle --help
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from her2d import __version__
from her2d.bundle import (
    Bundle,
    Manifest,
    Measured,
    Normalization,
    Parts,
    Training,
    load_bundle,
)
from her2d.inference import open_engine
from her2d.networks.export import export_classifiers, export_segmenter
from her2d.simulator import plan_cohort, write_cohort
from her2d.training.bundle_writer import (
    CLASSIFIERS_FILE,
    INTEGRATOR_FILE,
    SEGMENTER_FILE,
    part,
    write_integrator,
    write_manifest,
)
from her2d.training.classifiers import train_classifiers
from her2d.training.heldout import HeldOut, fold_probabilities, measure
from her2d.training.integrator import train_integrator
from her2d.training.segmenter import train_segmenter
from her2d.training.tiles import TileSet, read_cohort, read_tiles

INTENDED_USE = (
    "For demonstration on simulated slides. Not a medical device, not validated on any patient's"
    " tissue, not for diagnosis."
)
MEAN, STD = (0.75, 0.60, 0.78), (0.16, 0.18, 0.12)
CLASSIFIER = "resnet18"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is simulated and learned; the defaults are the shipped bundle's."""

    train_slides: int = 56
    validation_slides: int = 14
    heldout_slides: int = 44
    width: int = 3072
    height: int = 2560
    segmenter_width: float = 1 / 10
    classifier_width: float = 1 / 8
    segmenter_steps: int = 700
    classifier_steps: int = 220


def build(
    output: Path, work: Path, *, seed: int = 11, sizes: Sizes | None = None, console: Console
) -> HeldOut:
    """Make the demo bundle in `output`, with its cohorts under `work`.

    A cohort that is already under `work` is used as it is. The training cohort holds more positive
    slides than the paper's 12.5 %, so that strong tiles are not rare; the held-out one likewise,
    so that sensitivity means something.
    """
    sizes = sizes or Sizes()
    _simulate(work, sizes, seed, console)
    train = read_tiles(read_cohort(work / "train"))
    validation = read_tiles(read_cohort(work / "validation"))
    console.print(
        f"{len(train.pixels)} tissue tiles to learn from, {int(train.is_tumor.sum())} of them"
        f" tumour, {int((train.strong & train.is_tumor).sum())} strong"
    )
    output.mkdir(parents=True, exist_ok=True)
    _train_networks(output, train, sizes, seed, console)
    bundle = _integrate(output, validation, sizes, seed)
    heldout = read_cohort(work / "heldout")
    with _bar(console, "measuring", len(heldout)) as step:
        found = measure(bundle, heldout, progress=step)
    measured = Measured(
        cohort=f"simulated, seed {seed + 2}, artefacts on 15 % of slides; no slide seen before",
        slides=found.slides,
        slides_positive=found.positive,
        slides_without_tumor=found.without_tumor,
        segmenter_miou=round(found.miou, 4),
        tile_auroc=round(found.tile_auroc, 4),
        slide_accuracy=round(found.slide_accuracy, 4),
        slide_accuracy_ci_low=round(found.slide_accuracy_ci[0], 4),
        slide_accuracy_ci_high=round(found.slide_accuracy_ci[1], 4),
    )
    write_manifest(output, bundle.manifest.model_copy(update={"measured": measured}))
    return found


def _simulate(work: Path, sizes: Sizes, seed: int, console: Console) -> None:
    cohorts = (
        ("train", sizes.train_slides, 0.45, 0.12),
        ("validation", sizes.validation_slides, 0.50, 0.0),
        ("heldout", sizes.heldout_slides, 0.25, 0.14),
    )
    for number, (name, slides, positive, benign) in enumerate(cohorts):
        if (work / name / "cohort.csv").is_file():
            continue
        plans = plan_cohort(
            slides,
            seed + number,
            positive_fraction=positive,
            benign_fraction=benign,
            width=sizes.width,
            height=sizes.height,
            artefact_probability=0.15,
        )
        with _bar(console, f"simulating {name}", slides) as step:
            write_cohort(work / name, plans, workers=2, progress=lambda _: step())


def _train_networks(
    output: Path, train: TileSet, sizes: Sizes, seed: int, console: Console
) -> None:
    with _bar(console, "segmenter", sizes.segmenter_steps) as step:
        segmenter = train_segmenter(
            train,
            width_multiplier=sizes.segmenter_width,
            mean=MEAN,
            std=STD,
            steps=sizes.segmenter_steps,
            seed=seed,
            progress=lambda _: step(),
        )
    export_segmenter(segmenter, output / SEGMENTER_FILE, mean=MEAN, std=STD)
    with _bar(console, "five classifiers", 5 * sizes.classifier_steps) as step:
        classifiers = train_classifiers(
            train,
            name=CLASSIFIER,
            width_multiplier=sizes.classifier_width,
            mean=MEAN,
            std=STD,
            steps=sizes.classifier_steps,
            seed=seed,
            progress=lambda *_: step(),
        )
    export_classifiers(classifiers, output / CLASSIFIERS_FILE, mean=MEAN, std=STD)


def _integrate(output: Path, validation: TileSet, sizes: Sizes, seed: int) -> Bundle:
    """Fit the forest on the exported classifiers' say on slides that no fold was trained on."""
    # A first manifest lets the bundle be loaded; the forest in it is a stand-in for one moment.
    stand_in = np.repeat(np.linspace(0, 1, 20, dtype=np.float32)[:, None], 5, axis=1)
    write_integrator(output, train_integrator(stand_in, stand_in[:, 0] > 0.5, seed=seed))
    write_manifest(output, _manifest(output, sizes, seed))
    engine = open_engine(load_bundle(output), backend="auto")
    p_folds = fold_probabilities(engine, validation)
    engine.close()
    strong = validation.strong[validation.is_tumor]
    write_integrator(output, train_integrator(p_folds, strong, seed=seed))
    write_manifest(output, _manifest(output, sizes, seed))
    return load_bundle(output)


def _manifest(output: Path, sizes: Sizes, seed: int) -> Manifest:
    return Manifest(
        name="her2net-demo",
        version=__version__,
        intended_use=INTENDED_USE,
        normalization=Normalization(mean=MEAN, std=STD),
        parts=Parts(
            segmenter=part(output, SEGMENTER_FILE, f"SegNet, width x {sizes.segmenter_width:g}"),
            classifiers=part(
                output, CLASSIFIERS_FILE, f"5 x ResNet18, width x {sizes.classifier_width:g}"
            ),
            integrator=part(output, INTEGRATOR_FILE, "random forest, 50 trees"),
        ),
        training=Training(
            cohort=(
                f"simulated: {sizes.train_slides} slides (45 % positive, 12 % without tumour) for"
                f" the networks, {sizes.validation_slides} others for the integrator"
            ),
            seed=seed,
            code_version=__version__,
            command=f"python -m her2d.training.demo_bundle --seed {seed}",
            notes="No real tile was used: the real slides at hand carry no tumour masks.",
        ),
    )


@contextmanager
def _bar(console: Console, what: str, total: int) -> "Iterator[Step]":
    columns = (TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(what, total=total)
        yield Step(progress, task)


@dataclass(frozen=True, slots=True)
class Step:
    """Moves a progress bar on by one."""

    progress: Progress
    task: TaskID

    def __call__(self) -> None:
        self.progress.advance(self.task)


def main(
    output: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path(
        "engines/her2net-demo"
    ),
    work: Annotated[
        Path | None, typer.Option(help="Keep the cohorts here; reused if they are there.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 11,
) -> None:
    """Simulate cohorts, train slim networks on them, and write the demo bundle."""
    torch.use_deterministic_algorithms(True)
    console = Console()
    kept = work or Path(tempfile.mkdtemp(prefix="her2d-demo-bundle-"))
    try:
        found = build(output, kept, seed=seed, console=console)
    finally:
        if work is None:
            shutil.rmtree(kept)
    console.print(found)


if __name__ == "__main__":
    typer.run(main)
