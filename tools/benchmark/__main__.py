"""`python -m tools.benchmark`: tiles per second of every back end that runs here."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from her2d import load_bundle
from her2d.bundle.loading import Bundle
from her2d.cli.app import main
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, configure_logging_of, settings_of
from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.inference.options import BatchSizes
from her2d.pipeline.rules import rules_of
from her2d.processing.processor import pipeline_limits
from tools.benchmark.configurations import CONFIGURATIONS, Configuration
from tools.benchmark.measure import Options, Subject, measure
from tools.benchmark.report import Report
from tools.benchmark.slide import write_tissue_slide
from tools.benchmark.tables import markdown_report, print_report

_RENDERED_TILES = 16
_SLIDE_ROWS, _SLIDE_ROWS_ON_GPU = 8, 128
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
            help="Batch size in tiles; may be repeated. Default: 1, 8, 32. All back ends of one"
            " batch size are in memory together.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only back ends whose name in the table begins with this, such as 'torch cuda';"
            " may be repeated. Ratios are to the first one that runs."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often every figure is measured.")] = 3,
    pipeline_s: Annotated[
        float, typer.Option(min=0, help="Approximate seconds of each run of the pipeline.")
    ] = 5.0,
    slide: Annotated[
        Path | None,
        typer.Option(help="Slide for the pipeline. Default: a simulated one, all tissue."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File to write all measured values to.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="File to write the tables to, for RESULTS.md.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Measure tiles per second of segmenter, classifiers and pipeline on every back end.

    Back ends are measured alternately, so that shares and ratios hold where absolute rates are
    noisy. Engines take and return arrays. The pipeline is the daemon's and reads a slide from disk,
    decoding included. The peak is the rate of a large matrix product; the networks' arithmetic is
    given as a share of it.
    """
    # OpenMP reads this when torch is loaded. Its waiting threads would otherwise spin, and take the
    # cores from the threads that compute. In the pipeline, which has more threads than cores, they
    # sleep anyway.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # The pipeline has a thread for each CPU; as in the daemon, OpenCV adds none.
    cv2.setNumThreads(1)
    configurations = _chosen(only)
    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    bundle = load_bundle(directory or settings.bundle.path)
    options = Options(
        batches=tuple(batches or (1, 8, 32)),
        repeats=repeats,
        reading_s=_READING_S,
        pipeline_s=pipeline_s,
        limits=pipeline_limits(settings, BatchSizes(1, 1)),
        threads=settings.inference.threads,
    )
    report = _measured(bundle, slide, options, configurations)
    print_report(report, Console(markup=False))
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(asdict(report), indent=2) + "\n")
        if markdown_file is not None:
            markdown_file.write_text(markdown_report(report))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}.") from error


def _chosen(only: list[str] | None) -> tuple[Configuration, ...]:
    beginnings = tuple(only or [""])
    for beginning in beginnings:
        if not any(configuration.name.startswith(beginning) for configuration in CONFIGURATIONS):
            names = ", ".join(f"'{configuration.name}'" for configuration in CONFIGURATIONS)
            raise UserError(f"No back end's name begins with '{beginning}'. Choose from {names}.")
    return tuple(c for c in CONFIGURATIONS if c.name.startswith(beginnings))


def _measured(
    bundle: Bundle, slide: Path | None, options: Options, configurations: tuple[Configuration, ...]
) -> Report:
    columns = (TextColumn("{task.description:>40}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="her2d-bench-") as folder,
        Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars,
    ):
        task = bars.add_task("preparing", total=options.repeats)

        def progress(what: str, done: int, repeats: int) -> None:
            bars.update(task, description=what, completed=done, total=repeats)

        subject = Subject(bundle, rules_of(bundle), *(_given(slide) or _simulated(Path(folder))))
        return measure(subject, options, progress, configurations)


def _given(slide: Path | None) -> tuple[Path, str] | None:
    return None if slide is None else (slide, slide.name)


def _simulated(folder: Path) -> tuple[Path, str]:
    from her2d.simulator.tissue import tissue_tiles

    path = folder / "tissue.tif"
    try:
        find_gpu()
        # At the end of each slide, batches wait for tiles that do not come: on a slide that a GPU
        # scores in a fraction of a second, little else would be measured.
        rows = _SLIDE_ROWS_ON_GPU
    except NoGpuError:
        rows = _SLIDE_ROWS
    write_tissue_slide(path, tissue_tiles(_RENDERED_TILES), rows)
    return path, "simulated at 4x, all tissue, JPEG in Motic's format"


if __name__ == "__main__":
    main(app)
