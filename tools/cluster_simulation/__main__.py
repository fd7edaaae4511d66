"""`python -m tools.cluster_simulation`: measure, simulate, and compare with the real system."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.settings import ClusterSettings
from tools.benchmark.machine import this_machine
from tools.cluster_simulation.figures import draw_busy, draw_curves
from tools.cluster_simulation.measure import machine, measure, measured, save
from tools.cluster_simulation.model import Losses
from tools.cluster_simulation.page import Study, page
from tools.cluster_simulation.scenarios import (
    BY_THE_DAEMON,
    SCENARIOS,
    SLIDES,
    curve,
    point,
)
from tools.cluster_simulation.validate import validate

_ROOT = Path(__file__).parents[2]
_BUNDLE = _ROOT / "engines" / "her2net-demo"
_PAGES = _ROOT / "docs" / "explanation"
_MOST_SLIDES = ClusterSettings().most_slides

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_console = Console()

Bundle = Annotated[Path, typer.Argument(help="Bundle folder.")]


@app.command("measure")
def measure_command(bundle: Bundle = _BUNDLE) -> None:
    """Measure the service times on this machine, and keep them for the other commands."""
    with tempfile.TemporaryDirectory() as folder:
        times = measure(bundle, Path(folder))
    here = this_machine()
    date = datetime.now(UTC).date().isoformat()
    save(times, {"processor": here.processor, "cores": str(here.cores), "date": date})
    _console.print(times)


@app.command()
def curves(
    slides: Annotated[int, typer.Option(min=1, help="Slides in the archive.")] = SLIDES,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 19,
    folder: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = _PAGES,
) -> None:
    """Simulate 1 to 64 nodes, and write the documentation's page with its figures."""
    times = measured()
    found = []
    for scenario in SCENARIOS:
        _console.print(scenario.name)
        found.append(list(curve(scenario, times, slides, seed)))
    daemon = list(curve(BY_THE_DAEMON, times, slides, seed))
    losing = SCENARIOS[2]
    hours: dict[float | None, Losses] = {each: Losses(each * 3600) for each in (24.0, 1.0)}
    hours[None] = Losses()
    study = Study(
        times,
        machine(),
        slides,
        found,
        daemon,
        {each: point(losing, times, slides, 16, seed, losses) for each, losses in hours.items()},
        point(SCENARIOS[0], times, slides, 16, seed, most_slides=_MOST_SLIDES),
        point(SCENARIOS[0], times, slides, 16, seed),
        _MOST_SLIDES,
        Losses().noticed_s,
        Losses().back_s,
    )
    figures = folder / "cluster"
    figures.mkdir(parents=True, exist_ok=True)
    draw_curves(found, figures / "scaling.svg")
    draw_busy(daemon, figures / "daemon.svg")
    (folder / "cluster-at-scale.md").write_text(page(study))
    _console.print(f"Written: {folder / 'cluster-at-scale.md'}")


@app.command("validate")
def validate_command(
    bundle: Bundle = _BUNDLE,
    slides: Annotated[int, typer.Option(min=4, help="Slides of 16 tiles to score.")] = 24,
    repeats: Annotated[int, typer.Option(min=1, help="Runs with each number of actors.")] = 3,
) -> None:
    """Score slides by a real daemon and a real cluster of 1, 2 and 3 actors, and simulate the same.

    Needs an idle machine with two cores; measure there first.
    """
    table = Table("actors", "slides a minute", "simulated", "times one actor", "simulated")
    found = validate(bundle, measured(), slides=slides, repeats=repeats)
    one = found[0]
    for each in found:
        table.add_row(
            str(each.actors),
            f"{each.real:.2f}",
            f"{each.simulated:.2f}",
            f"{each.real / one.real:.2f}",
            f"{each.simulated / one.simulated:.2f}",
        )
    _console.print(table)


if __name__ == "__main__":
    app()
