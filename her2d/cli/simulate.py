"""`her2d simulate cohort|scanner`: write simulated slides, at once or as a scanner does."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from her2d.cli.errors import UserError
from her2d.cli.options import MOST_SEED
from her2d.cli.terminal import say

if TYPE_CHECKING:
    from her2d.simulator.plan import SlidePlan

app = typer.Typer(help="Write simulated slides with ground truth.", no_args_is_help=True)

# Larger slides than any scanner's; a slide of this size takes hours to render.
_MOST_SLIDES = 100_000
_MOST_PIXELS = 200_000

SlidesOption = Annotated[int, typer.Option(min=1, max=_MOST_SLIDES, help="Number of slides.")]
SeedOption = Annotated[
    int, typer.Option(min=0, max=MOST_SEED, help="The same seed gives the same slides.")
]
WidthOption = Annotated[
    int, typer.Option(min=1024, max=_MOST_PIXELS, help="Mean width in pixels at 4x.")
]
HeightOption = Annotated[
    int, typer.Option(min=1024, max=_MOST_PIXELS, help="Mean height in pixels at 4x.")
]
MagnificationOption = Annotated[
    float | None, typer.Option(help="4 or 40; easy only. Default: 4.", show_default=False)
]
PositiveOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of HER2-positive slides. Default: 0.125, external slides of paper: 0.206.",
        show_default=False,
    ),
]
ArtefactsOption = Annotated[
    float, typer.Option(min=0, max=1, help="Probability of folds, pen marks, blur and dust, each.")
]


class Difficulty(StrEnum):
    """How hard the slides of a cohort are to tell apart."""

    EASY = "easy"
    PAPER = "paper"


DifficultyOption = Annotated[
    Difficulty,
    typer.Option(
        help="easy: HER2-high tumour grows in tubules, and only that. paper: about as hard as the"
        " paper's cohort."
    ),
]


@app.command("cohort")
def cohort(
    directory: Annotated[Path, typer.Argument(help="Folder to write; created if missing.")],
    slides: SlidesOption = 16,
    seed: SeedOption = 0,
    difficulty: DifficultyOption = Difficulty.EASY,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = None,
    positive: PositiveOption = None,
    artefacts: ArtefactsOption = 0.0,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of processes.")] = 2,
) -> None:
    """Write H&E and IHC slides with their ground truth.

    cohort.csv is the table for `her2d prepare`. With --difficulty easy, the IHC slides are aligned
    with the H&E slides, and all slides come from one centre.

    With --difficulty paper, 12 % of the positive slides are poorly cohesive, and 8 % of the
    negative ones grow in tubules or papillae. The slides come from two centres, the external split
    from the second, and have annotations with noise. More in docs/explanation/simulated-slides.md.
    """
    from her2d.simulator.cohort import write_cohort
    from her2d.simulator.stain import DAB_THRESHOLD

    try:
        plans = _plans(
            difficulty, slides, seed, (width, height), magnification, positive, artefacts
        )
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("slides", total=slides)
            write_cohort(directory, plans, workers=workers, progress=lambda _: bar.advance(task))
    except (ValueError, OSError) as error:
        raise UserError(f"The cohort cannot be simulated: {error}.") from error
    say(f"Wrote {slides} slides to {directory}. Their table is {directory / 'cohort.csv'}.")
    by_dab = f"--expression dab --dab-threshold {DAB_THRESHOLD}"
    say(
        f"Their annotations are in the table. To take expression from the IHC slides: {by_dab}."
        if difficulty is Difficulty.PAPER
        else f"To prepare them: --annotations 'truth/{{slide}}.tif', or in addition {by_dab}."
    )


@app.command("scanner")
def scanner(
    inbox: Annotated[Path, typer.Argument(help="Inbox of a daemon; created if missing.")],
    slides: SlidesOption = 4,
    seed: SeedOption = 0,
    difficulty: DifficultyOption = Difficulty.EASY,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = None,
    positive: PositiveOption = None,
    artefacts: ArtefactsOption = 0.0,
    pace: Annotated[float, typer.Option(min=0.001, max=1e6, help="Megabytes per second.")] = 4.0,
) -> None:
    """Write slides one by one, as a scanner does.

    Files grow in place or under a temporary name, as those of scanners and network copies do.
    """
    from her2d.simulator.scanner import run_scanner

    try:
        inbox.mkdir(parents=True, exist_ok=True)
        plans = _plans(
            difficulty, slides, seed, (width, height), magnification, positive, artefacts
        )
        for delivered in run_scanner(inbox, plans, seed=seed, bytes_per_second=pace * 1e6):
            say(f"{delivered.path}  {delivered.style.value}  {delivered.plan.her2_status}")
    except (ValueError, OSError) as error:
        raise UserError(f"The scanner stopped: {error}.") from error


def _plans(
    difficulty: Difficulty,
    slides: int,
    seed: int,
    size: tuple[int, int],
    magnification: float | None,
    positive: float | None,
    artefacts: float,
) -> "list[SlidePlan]":
    """Plan slides; raises UserError for options that exclude each other, else ValueError."""
    from her2d.simulator.paper_cohort import plan_paper_cohort
    from her2d.simulator.plan import plan_cohort

    width, height = size
    if difficulty is Difficulty.EASY:
        return plan_cohort(
            slides,
            seed,
            positive_fraction=0.125 if positive is None else positive,
            width=width,
            height=height,
            magnification=4.0 if magnification is None else magnification,
            artefact_probability=artefacts,
        )
    if magnification is not None:
        raise UserError(
            "--magnification cannot be used with --difficulty paper, whose slides have several."
        )
    return plan_paper_cohort(
        slides,
        seed,
        positive_fraction=positive,
        width=width,
        height=height,
        artefact_probability=artefacts,
    )
