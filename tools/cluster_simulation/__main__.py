"""`python -m tools.cluster_simulation`: measure, simulate, and compare with the real system."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tools.benchmark.machine import this_machine
from tools.cluster_simulation.figures import draw_busy, draw_curves
from tools.cluster_simulation.measure import measure, measured, save
from tools.cluster_simulation.model import Losses, most_slides_an_hour
from tools.cluster_simulation.scenarios import BY_THE_DAEMON, SCENARIOS, SLIDES, Point, curve, point
from tools.cluster_simulation.validate import validate

_ROOT = Path(__file__).parents[2]
_BUNDLE = _ROOT / "engines" / "her2net-demo"
_FIGURES = _ROOT / "docs" / "how-to" / "cluster"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_console = Console()

Bundle = Annotated[Path, typer.Argument(help="Bundle folder.")]


@app.command("measure")
def measure_command(bundle: Bundle = _BUNDLE) -> None:
    """Measure the service times on this machine, and keep them for the other commands."""
    with tempfile.TemporaryDirectory() as folder:
        times = measure(bundle, Path(folder))
    machine = this_machine()
    date = datetime.now(UTC).date().isoformat()
    save(times, {"processor": machine.processor, "cores": str(machine.cores), "date": date})
    _console.print(times)


@app.command()
def curves(
    slides: Annotated[int, typer.Option(min=1, help="Slides in the archive.")] = SLIDES,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 19,
    folder: Annotated[Path, typer.Option(help="Folder for the figures.")] = _FIGURES,
) -> None:
    """Simulate 1 to 64 nodes, print what limits them, and draw the figures of the documentation."""
    times = measured()
    found = [list(curve(scenario, times, slides, seed)) for scenario in SCENARIOS]
    daemon = list(curve(BY_THE_DAEMON, times, slides, seed))
    for points in (*found, daemon):
        _print(points)
    gpu = SCENARIOS[2]
    with_losses = [
        (f"a node lives {hours} h", point(gpu, times, slides, 16, seed, Losses(hours * 3600)))
        for hours in (24, 1)
    ]
    default = point(gpu, times, slides, 64, seed, most_slides=32)
    for name, each in (*with_losses, ("[cluster] most_slides = 32", default)):
        seen = each.found
        _console.print(
            f"{each.scenario.name}, {each.nodes} nodes, {name}: {seen.slides_an_hour:,.0f} slides"
            f" an hour, {seen.lost} attempts lost, {seen.slides} slides with a result,"
            f" {seen.recorded_twice} with two"
        )
    folder.mkdir(parents=True, exist_ok=True)
    draw_curves(found, folder / "scaling.svg")
    draw_busy(daemon, folder / "daemon.svg")


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


def _print(points: list[Point]) -> None:
    scenario = points[0].scenario
    table = Table("nodes", "slides an hour", "limit", "its share", title=scenario.name)
    for each in points:
        found = each.found
        table.add_row(
            str(each.nodes),
            f"{found.slides_an_hour:,.0f}",
            found.limit,
            f"{100 * found.busy[found.limit]:.0f} %",
        )
    _console.print(table)
    last = points[-1]
    alone = most_slides_an_hour(
        scenario.times(measured()), scenario.site(last.nodes), scenario.archive(1)
    )
    _console.print("each part alone: ", {part: f"{most:,.0f}" for part, most in alone.items()})


if __name__ == "__main__":
    app()
