"""The documentation's page on how a cluster scales, written from the numbers that it shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.cluster_simulation.model import ServiceTimes, most_slides_an_hour
from tools.cluster_simulation.scenarios import NODES, Point

_WORTH = 0.8  # of what nodes without limits would do

_PAGE = Path(__file__).with_name("page.md.template")

_MEANING = {
    "claim_s": "the database: claim a job",
    "hashed_s": "the database: store a hash",
    "record_s": "the database: record a result",
    "draw_s": "the daemon: draw the pictures, on any core",
    "python_s": "the daemon's interpreter: hand a slide out and take its result",
    "driver_s": "the process that speaks with Ray: the same",
    "python_poll_s": "the daemon's interpreter: ask for a slide, each half second",
    "driver_poll_s": "the process that speaks with Ray: the same",
    "tile_s": "one core: a tile by the bundle's networks",
}


@dataclass(frozen=True, slots=True)
class Study:
    """All that the page shows.

    Attributes:
        times, machine: what was measured, on what.
        curves: a run with each number of nodes, of each scenario.
        daemon: the same with a network that takes no time.
        losses: hours that a node lives on average -> a run; None for nodes that are not lost.
        default, enough: nodes with the default `most_slides`, and with as many as have a place.
    """

    times: ServiceTimes
    machine: str
    slides: int
    curves: Sequence[Sequence[Point]]
    daemon: Sequence[Point]
    losses: Mapping[float | None, Point]
    default: Point
    enough: Point
    most_slides: int
    noticed_s: float
    back_s: float


def page(study: Study) -> str:
    """Return the page in Markdown.

    Raises:
        ValueError: a slide has no result, or two.
    """
    first = study.curves[0][0].scenario
    gpu = study.daemon[-1]
    if any(
        (point.found.slides, point.found.recorded_twice) != (study.slides, 0)
        for points in (*study.curves, study.daemon, study.losses.values())
        for point in points
    ):
        raise ValueError("A simulated slide was lost or recorded twice.")
    return _PAGE.read_text().format(
        slides=study.slides,
        tiles=first.archive(1).tiles,
        machine=study.machine,
        gigabits=first.gigabits,
        curves=_curves(study.curves),
        limits=_limits(study.curves, study.slides),
        daemon=_daemon(study),
        database_percent=100 * gpu.found.busy["database"],
        losses=_losses(study),
        default=study.default.found.slides_an_hour,
        enough=study.enough.found.slides_an_hour,
        most_slides=study.most_slides,
        nodes=f"{study.default.nodes} nodes ({study.default.scenario.name})",
        times=_times(study.times),
        gpu_ms=1000 * (gpu.scenario.tile_s or 0.0),
        noticed_s=study.noticed_s,
        back_min=study.back_s / 60,
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _curves(curves: Sequence[Sequence[Point]]) -> str:
    rows = (
        [points[0].scenario.name, *(f"{point.found.slides_an_hour:,.0f}" for point in points)]
        for points in curves
    )
    return _table(["slides an hour, by nodes", *map(str, NODES)], rows)


def _limits(curves: Sequence[Sequence[Point]], slides: int) -> str:
    rows = []
    for points in curves:
        one = points[0].found.slides_an_hour
        worth = [
            point.nodes
            for point in points
            if point.found.slides_an_hour >= _WORTH * one * point.nodes
        ]
        last = points[-1].found
        rows.append(
            [
                points[0].scenario.name,
                str(max(worth)),
                f"{last.limit}, {100 * last.busy[last.limit]:.0f} % busy",
                f"{slides / last.slides_an_hour:.1f} h",
            ]
        )
    heads = [
        "",
        f"nodes that are worth {100 * _WORTH:.0f} % of their price",
        "limit of 64 nodes",
        f"{slides:,} slides with 64 nodes",
    ]
    return _table(heads, rows)


def _daemon(study: Study) -> str:
    last = study.daemon[-1]
    scenario = last.scenario
    alone = most_slides_an_hour(
        scenario.times(study.times), scenario.site(last.nodes), scenario.archive(1)
    )
    rows = (
        [part, f"{100 * last.found.busy[part]:.0f} %", f"{most:,.0f}"]
        for part, most in sorted(alone.items(), key=lambda each: each[1])
        if most < float("inf")
    )
    heads = ["part", "busy, with 64 nodes", "slides an hour that it could do, without polls"]
    return _table(heads, rows)


def _losses(study: Study) -> str:
    rows = (
        [
            "none is lost" if hours is None else f"a node lives {hours:g} h on average",
            f"{point.found.slides_an_hour:,.0f}",
            f"{point.found.lost:,}",
            f"{point.found.slides:,}",
            f"{point.found.recorded_twice:,}",
        ]
        for hours, point in study.losses.items()
    )
    any_point = next(iter(study.losses.values()))
    name = f"{any_point.scenario.name}, {any_point.nodes} nodes"
    heads = [name, "slides an hour", "attempts lost", "slides with a result", "with two"]
    return _table(heads, rows)


def _times(times: ServiceTimes) -> str:
    rows = [
        [meaning, f"{1000 * getattr(times, name):.3g} ms"] for name, meaning in _MEANING.items()
    ]
    rows.append(["one core: hash", f"{times.hash_mb_s:,.0f} MB/s"])
    rows.append(["a result on its way", f"{times.result_mb:.1f} MB"])
    return _table(["what was measured, of processor time", "for each slide"], rows)
