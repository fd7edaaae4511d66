"""`her2d simulate cohort|scanner`: write simulated slides, at once or as a scanner does."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from her2d.cli.errors import UserError
from her2d.cli.options import MOST_SEED
from her2d.cli.terminal import say

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
MagnificationOption = Annotated[float, typer.Option(help="4 or 40.")]
PositiveOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of HER2-positive slides (paper: 0.125).")
]
ArtefactsOption = Annotated[
    float, typer.Option(min=0, max=1, help="Probability of folds, pen marks, blur and dust, each.")
]


@app.command("cohort")
def cohort(
    directory: Annotated[Path, typer.Argument(help="Folder to write; created if missing.")],
    slides: SlidesOption = 16,
    seed: SeedOption = 0,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = 4.0,
    positive: PositiveOption = 0.125,
    artefacts: ArtefactsOption = 0.0,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of processes.")] = 2,
) -> None:
    """Write H&E and IHC slides with their ground truth.

    The IHC slides are aligned with the H&E slides. cohort.csv is the table for `her2d prepare`.
    """
    from her2d.simulator.cohort import write_cohort
    from her2d.simulator.plan import plan_cohort
    from her2d.simulator.stain import DAB_THRESHOLD

    try:
        plans = plan_cohort(
            slides,
            seed,
            positive_fraction=positive,
            width=width,
            height=height,
            magnification=magnification,
            artefact_probability=artefacts,
        )
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("slides", total=slides)
            write_cohort(directory, plans, workers=workers, progress=lambda _: bar.advance(task))
    except (ValueError, OSError) as error:
        raise UserError(f"The cohort cannot be simulated: {error}.") from error
    say(
        f"Wrote {slides} slides to {directory}. Their table is {directory / 'cohort.csv'}."
        " To prepare them: --annotations 'truth/{slide}.tif', or in addition --expression dab"
        f" --dab-threshold {DAB_THRESHOLD}."
    )


@app.command("scanner")
def scanner(
    inbox: Annotated[Path, typer.Argument(help="Inbox of a daemon; created if missing.")],
    slides: SlidesOption = 4,
    seed: SeedOption = 0,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = 4.0,
    positive: PositiveOption = 0.125,
    artefacts: ArtefactsOption = 0.0,
    pace: Annotated[float, typer.Option(min=0.001, max=1e6, help="Megabytes per second.")] = 4.0,
) -> None:
    """Write slides one by one, as a scanner does.

    Files grow in place or under a temporary name, as those of scanners and network copies do.
    """
    from her2d.simulator.plan import plan_cohort
    from her2d.simulator.scanner import run_scanner

    try:
        inbox.mkdir(parents=True, exist_ok=True)
        plans = plan_cohort(
            slides,
            seed,
            positive_fraction=positive,
            width=width,
            height=height,
            magnification=magnification,
            artefact_probability=artefacts,
        )
        for delivered in run_scanner(inbox, plans, seed=seed, bytes_per_second=pace * 1e6):
            say(f"{delivered.path}  {delivered.style.value}  {delivered.plan.her2_status}")
    except (ValueError, OSError) as error:
        raise UserError(f"The scanner stopped: {error}.") from error
