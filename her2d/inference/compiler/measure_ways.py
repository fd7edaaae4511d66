"""Measure how a plan's networks run fastest on the CPUs of this machine."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from her2d.inference.compiler.tensorrt_builder import BuildProgress
from her2d.inference.engine import Tiles
from her2d.inference.host_tiles import HostNetwork
from her2d.inference.plan_engine import host_classifiers, host_segmenter
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.inference.ways import (
    NetworkWays,
    PlanWays,
    TriedWay,
    Way,
    candidate_ways,
    chosen_way,
)
from her2d.system.cpus import usable_cpus
from her2d.system.memory import give_back_free_memory

_ROUNDS = 5
_FEWEST_ROUNDS = 3
_LEAST_S = 0.05  # of a measurement
_ENOUGH_S = 20.0  # after which no further round begins


def measure_ways(
    files: PlanFiles,
    sidecar: Sidecar,
    tiles: Tiles,
    *,
    processor: str,
    progress: BuildProgress,
) -> PlanWays:
    """Try the ways of computing for both networks of a plan, and choose one for each.

    Args:
        files, sidecar: the plan, of a back end that computes on the CPU.
        tiles: tissue, N >= 1.
        processor: what this machine's is called, see `Platform.device`.
        progress: as in `compile_bundle`.

    Raises:
        EngineError: a network cannot be opened, or failed.
    """
    cpus = usable_cpus()
    found = []
    for name, opened in (
        ("segmenter", partial(host_segmenter, files, sidecar)),
        ("classifiers", partial(host_classifiers, files, sidecar)),
    ):
        step = f"{name}: how it runs fastest"
        found.append(measured(opened, tiles, candidate_ways(cpus), step=step, progress=progress))
        give_back_free_memory()
    segmenter, classifiers = found
    return PlanWays(processor=processor, cpus=cpus, segmenter=segmenter, classifiers=classifiers)


def measured(
    opened: Callable[[Way], HostNetwork],
    tiles: Tiles,
    ways: tuple[Way, ...],
    *,
    step: str,
    progress: BuildProgress,
) -> NetworkWays:
    """Run one network in each of several ways, in turns.

    Args:
        opened: opens it. Ways that differ only in the batch share what is opened.
        tiles: what it runs on, as often as a batch needs them.
        ways: the simplest first.
        step, progress: how to name and report this.
    """
    networks: dict[tuple[int, int], HostNetwork] = {}
    for way in ways:
        if (way.calls, way.threads) not in networks:
            networks[way.calls, way.threads] = opened(way)
    rounds: list[list[tuple[float, float]]] = []
    began = time.monotonic()
    for done in range(_ROUNDS):
        progress(step, done, _ROUNDS)
        if done >= _FEWEST_ROUNDS and time.monotonic() - began > _ENOUGH_S:
            break
        rounds.append(
            [_tile_ms(networks[way.calls, way.threads], tiles, way.batch) for way in ways]
        )
    progress(step, _ROUNDS, _ROUNDS)
    tried = tuple(
        TriedWay(
            way=way,
            wall_ms=tuple(wall for wall, _ in taken),
            cpu_ms=tuple(cpu for _, cpu in taken),
        )
        for way, taken in zip(ways, zip(*rounds, strict=True), strict=True)
    )
    return NetworkWays(chosen=chosen_way(tried), tried=tried)


def _tile_ms(network: HostNetwork, tiles: Tiles, batch: int) -> tuple[float, float]:
    """Return the milliseconds that a tile of a batch takes, and those of processor time."""
    given = tiles[np.arange(batch) % len(tiles)]
    network.run(given)  # A library prepares itself for a batch of another size than the last.
    runs, wall_s = 0, 0.0
    began, cpu_began = time.perf_counter(), time.process_time()
    while wall_s < _LEAST_S:
        network.run(given)
        runs += 1
        wall_s = time.perf_counter() - began
    cpu_s = time.process_time() - cpu_began
    return round(1000 * wall_s / (runs * batch), 3), round(1000 * cpu_s / (runs * batch), 3)
