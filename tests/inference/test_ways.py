"""How a network runs fastest: what is tried, and what is chosen of it."""

import numpy as np
import pytest

from her2d.inference.compiler.measure_ways import measured
from her2d.inference.ways import TriedWay, Way, candidate_ways, chosen_way

ONE_BY_ONE = Way(batch=1, calls=1, threads=2)
SIDE_BY_SIDE = Way(batch=2, calls=2, threads=1)
PAIRS = Way(batch=2, calls=1, threads=2)


def tried(way: Way, *rounds: tuple[float, float]) -> TriedWay:
    return TriedWay(
        way=way,
        wall_ms=tuple(wall for wall, _ in rounds),
        cpu_ms=tuple(cpu for _, cpu in rounds),
    )


SIMPLEST = tried(ONE_BY_ONE, (50, 80), (100, 80), (60, 90))


def test_with_one_cpu_only_batches_are_tried_and_with_more_also_calls_side_by_side():
    assert candidate_ways(1) == tuple(Way(batch=n, calls=1, threads=1) for n in (1, 2, 4))
    assert candidate_ways(2)[:2] == (ONE_BY_ONE, SIDE_BY_SIDE)


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 64])
def test_no_way_has_more_threads_than_there_are_cpus(cpus):
    ways = candidate_ways(cpus)
    assert ways[0] == Way(batch=1, calls=1, threads=cpus)
    assert all(way.calls * way.threads <= cpus for way in ways)
    assert max(way.batch for way in ways) == 4  # of which each takes 0.5 GB at the paper's size


def test_the_fastest_is_chosen_though_rounds_differ_more_than_ways():
    faster = tried(SIDE_BY_SIDE, (45, 80), (88, 80), (54, 90))
    fastest = tried(PAIRS, (40, 80), (80, 80), (50, 90))
    assert chosen_way([SIMPLEST, faster, fastest]) == PAIRS
    assert chosen_way([SIMPLEST, fastest, faster]) == PAIRS


@pytest.mark.parametrize(
    ("rounds", "why"),
    [
        ([(49, 80), (98, 80), (59, 90)], "it is 2 % faster"),
        ([(40, 80), (101, 80), (40, 90)], "it was slower once"),
        ([(40, 90), (80, 90), (48, 98)], "it costs processor time that others then lack"),
    ],
)
def test_the_simplest_way_is_kept_where_no_other_is_clearly_better(rounds, why):
    assert chosen_way([SIMPLEST, tried(PAIRS, *rounds)]) == ONE_BY_ONE, why


class Network:
    """Notes the batches that it is run on."""

    def __init__(self, batches: list[int]) -> None:
        self._batches = batches

    def run(self, tiles):
        self._batches.append(len(tiles))
        sum(range(5_000))  # so that it takes processor time that rounding keeps
        return []


def test_ways_take_turns_and_share_what_they_open(monkeypatch):
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._LEAST_S", 1e-9)
    opened, batches, steps = [], [], []

    def opening(way: Way) -> Network:
        opened.append((way.calls, way.threads))
        return Network(batches)

    tile = np.zeros((1, 512, 512, 3), np.uint8)
    ways = (ONE_BY_ONE, SIDE_BY_SIDE, PAIRS)
    found = measured(opening, tile, ways, step="s", progress=lambda *step: steps.append(step))
    assert opened == [(1, 2), (2, 1)]
    assert batches == [1, 1, 2, 2, 2, 2] * 5  # each once without being measured
    assert [each.way for each in found.tried] == list(ways)
    assert all(len(each.wall_ms) == len(each.cpu_ms) == 5 for each in found.tried)
    assert steps[-1] == ("s", 5, 5)


def test_a_slow_network_is_measured_in_three_rounds(monkeypatch):
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._LEAST_S", 1e-9)
    monkeypatch.setattr("her2d.inference.compiler.measure_ways._ENOUGH_S", 0.0)
    tile = np.zeros((1, 512, 512, 3), np.uint8)
    found = measured(lambda _: Network([]), tile, (ONE_BY_ONE, PAIRS), step="s", progress=print)
    assert [len(each.wall_ms) for each in found.tried] == [3, 3]
