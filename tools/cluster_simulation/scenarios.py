"""The sites and archives of the published curves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tools.cluster_simulation.model import Archive, Found, Losses, ServiceTimes, Site
from tools.cluster_simulation.simulation import Simulation

NODES = (1, 2, 4, 8, 16, 32, 64)
SLIDES = 100_000
_TILES = 200  # of tissue, on a section of 3 cm2
_GIGABIT_MB_S = 117.0  # what 1 Gb/s carries of files
_GPU_TILE_S = 0.01  # an H200 by torch, fp16: tests/performance/RESULTS.md, "On a GPU"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is scored, by what.

    Attributes:
        name: as in the figures.
        engines: of a node.
        tile_s: an engine takes for a tile; None if it is a quarter of what one core takes.
        size_mb: of a file.
        gigabits: of the storage, the daemon's machine and each node.
    """

    name: str
    engines: int
    tile_s: float | None
    size_mb: float
    gigabits: float = 10.0

    def times(self, measured: ServiceTimes) -> ServiceTimes:
        tile_s = measured.tile_s / 4 if self.tile_s is None else self.tile_s
        return replace(measured, tile_s=tile_s, slide_s=measured.slide_s / 4)

    def site(self, nodes: int) -> Site:
        rate = self.gigabits * _GIGABIT_MB_S
        return Site(
            nodes, self.engines, storage_mb_s=rate, owner_mb_s=rate, node_mb_s=rate, owner_cpus=8
        )

    def archive(self, slides: int) -> Archive:
        return Archive(slides, tiles=_TILES, size_mb=self.size_mb)


SCENARIOS = (
    Scenario("16 cores a node, 60 MB a file", 4, None, 60),
    Scenario("16 cores a node, 1 GB a file", 4, None, 1000),
    Scenario("a GPU a node, 60 MB a file", 1, _GPU_TILE_S, 60),
    Scenario("a GPU a node, 1 GB a file", 1, _GPU_TILE_S, 1000),
)

BY_THE_DAEMON = Scenario("a GPU a node, files that take no time", 1, _GPU_TILE_S, 0, math.inf)
"""What is left if the network is no limit."""


@dataclass(frozen=True, slots=True)
class Point:
    """A simulated run with so many nodes."""

    scenario: Scenario
    nodes: int
    found: Found


def curve(scenario: Scenario, measured: ServiceTimes, slides: int, seed: int) -> Iterator[Point]:
    """Simulate a scenario with each number of nodes."""
    for nodes in NODES:
        yield point(scenario, measured, slides, nodes, seed)


def point(
    scenario: Scenario,
    measured: ServiceTimes,
    slides: int,
    nodes: int,
    seed: int,
    losses: Losses | None = None,
    **site: int,
) -> Point:
    """Simulate a scenario with one number of nodes."""
    run = Simulation(
        scenario.times(measured),
        replace(scenario.site(nodes), **site),
        scenario.archive(slides),
        losses,
        seed=seed,
    )
    return Point(scenario, nodes, run.run())
