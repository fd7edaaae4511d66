"""`python -m tools.benchmark`: tiles a second of every back end that runs here."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from her2d.bundle.loading import Bundle, load_bundle
from her2d.cli.app import main
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, configure_logging_of, settings_of
from her2d.pipeline.rules import rules_of
from her2d.processing.processor import pipeline_limits
from tools.benchmark.configurations import CONTENDERS, Contender
from tools.benchmark.measure import Order, Subject, measure
from tools.benchmark.report import Report
from tools.benchmark.slide import write_tissue_slide
from tools.benchmark.tables import markdown_report, print_report

_RENDERED_TILES = 16
_SLIDE_ROWS = 8
_READING_S = 0.5


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def bench(
    directory: Annotated[
        Path | None, typer.Argument(help="Bundle folder. Default: the one in the settings.")
    ] = None,
    batches: Annotated[
        list[int] | None,
        typer.Option(
            "--batch",
            min=1,
            help="Tiles at once; may be repeated. Default: 1, 8, 32. All back ends of one size are"
            " in memory together.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only back ends whose name in the table begins so, such as 'torch cuda'; may be"
            " repeated. Shares are of the first one that runs."
        ),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Readings of every figure.")] = 3,
    pipeline_s: Annotated[
        float, typer.Option(min=0, help="About how long each run of the pipeline takes.")
    ] = 5.0,
    slide: Annotated[
        Path | None,
        typer.Option(help="Slide to run the pipeline on. Default: a simulated one, all tissue."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was measured there.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables there, for RESULTS.md.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Measure tiles a second of segmenter, classifiers and pipeline on every back end that runs.

    Back ends take turns, so that shares and ratios hold where absolute rates are noise. The engines
    are given arrays and give arrays; the pipeline is the daemon's own and reads a slide from disk,
    decoding included. The floor is the networks' arithmetic over a large matrix product.
    """
    # OpenMP reads it when torch is loaded. A pool of threads that is alone spins while it waits for
    # its own, which on busy cores costs most of its speed; the pipeline's pools outnumber the cores
    # and sleep by themselves.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    contenders = _chosen(only)
    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    bundle = load_bundle(directory or settings.bundle.path)
    order = Order(
        batches=tuple(batches or (1, 8, 32)),
        turns=turns,
        reading_s=_READING_S,
        pipeline_s=pipeline_s,
        limits=pipeline_limits(settings),
        threads=settings.inference.threads,
    )
    report = _measured(bundle, slide, order, contenders)
    print_report(report, Console(markup=False))
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(asdict(report), indent=2) + "\n")
        if markdown_file is not None:
            markdown_file.write_text(markdown_report(report))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}.") from error


def _chosen(only: list[str] | None) -> tuple[Contender, ...]:
    beginnings = tuple(only or [""])
    for beginning in beginnings:
        if not any(contender.name.startswith(beginning) for contender in CONTENDERS):
            names = ", ".join(f"'{contender.name}'" for contender in CONTENDERS)
            raise UserError(f"No back end's name begins with '{beginning}'; there are {names}.")
    return tuple(c for c in CONTENDERS if c.name.startswith(beginnings))


def _measured(
    bundle: Bundle, slide: Path | None, order: Order, contenders: tuple[Contender, ...]
) -> Report:
    columns = (TextColumn("{task.description:>40}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="her2d-bench-") as folder,
        Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars,
    ):
        task = bars.add_task("preparing", total=order.turns)

        def progress(what: str, done: int, turns: int) -> None:
            bars.update(task, description=what, completed=done, total=turns)

        subject = Subject(bundle, rules_of(bundle), *(_given(slide) or _simulated(Path(folder))))
        return measure(subject, order, progress, contenders)


def _given(slide: Path | None) -> tuple[Path, str] | None:
    return None if slide is None else (slide, slide.name)


def _simulated(folder: Path) -> tuple[Path, str]:
    from her2d.simulator.tissue import tissue_tiles

    path = folder / "tissue.tif"
    write_tissue_slide(path, tissue_tiles(_RENDERED_TILES), _SLIDE_ROWS)
    return path, "simulated at 4x, all tissue, JPEG in Motic's format"


if __name__ == "__main__":
    main(app)
