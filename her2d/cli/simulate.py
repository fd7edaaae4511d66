"""`her2d simulate cohort|scanner`: slides and a scanner that aren't there."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from her2d.cli.errors import UserError

app = typer.Typer(
    help="Synthetic slides with ground truth, as a scanner writes them.", no_args_is_help=True
)

SlidesOption = Annotated[int, typer.Option(min=1, help="How many slides.")]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same slides.")]
WidthOption = Annotated[int, typer.Option(min=1024, help="Mean width in pixels at 4x.")]
HeightOption = Annotated[int, typer.Option(min=1024, help="Mean height in pixels at 4x.")]
MagnificationOption = Annotated[float, typer.Option(help="4 or 40.")]
PositiveOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of HER2-positive slides (paper: 0.125).")
]
ArtefactsOption = Annotated[
    float, typer.Option(min=0, max=1, help="Chance of folds, pen marks, blur and dust, each.")
]


@app.command("cohort")
def cohort(
    directory: Annotated[Path, typer.Argument(help="Folder to write; made if missing.")],
    slides: SlidesOption = 16,
    seed: SeedOption = 0,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = 4.0,
    positive: PositiveOption = 0.125,
    artefacts: ArtefactsOption = 0.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Write H&E slides, their aligned IHC slides, their truth, and cohort.csv."""
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
    typer.echo(
        f"{slides} slides in {directory}; see {directory / 'cohort.csv'}. To prepare them:"
        f" --annotations 'truth/{{slide}}.tif', or with --expression dab --dab-threshold"
        f" {DAB_THRESHOLD} besides"
    )


@app.command("scanner")
def scanner(
    inbox: Annotated[Path, typer.Argument(help="Folder that a daemon watches; made if missing.")],
    slides: SlidesOption = 4,
    seed: SeedOption = 0,
    width: WidthOption = 4096,
    height: HeightOption = 3072,
    magnification: MagnificationOption = 4.0,
    positive: PositiveOption = 0.125,
    artefacts: ArtefactsOption = 0.0,
    pace: Annotated[float, typer.Option(min=0.001, help="Megabytes a second.")] = 4.0,
) -> None:
    """Write one slide after the other into a folder, as scanners and network copies do."""
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
            typer.echo(f"{delivered.path}  {delivered.style.value}  {delivered.plan.her2_status}")
    except (ValueError, OSError) as error:
        raise UserError(f"The scanner stopped: {error}.") from error
