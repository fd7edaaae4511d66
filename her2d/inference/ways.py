"""Ways to run a network on the CPUs, and the choice among them by what was measured.

Ways differ at most in rounding. Which is the fastest depends on the network, the processor's
caches and the number of CPUs, so that it is measured where a plan is compiled and kept in the
plan's sidecar.
"""

from collections.abc import Sequence
from statistics import median
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(gt=0)]

# Calls side by side hold their activations side by side, 0.5 GB each at the paper's size.
_MOST_CALLS = 4
_BATCHES = (2, 4)
# Another way must be faster by this share, and may cost this share more of processor time.
_LEAST_GAIN = 0.03
_MOST_COST = 0.03


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Way(_Section):
    """How many tiles a network gets at once, and how it computes them.

    Attributes:
        batch: tiles at once.
        calls: how many calls side by side they are divided among.
        threads: of each call.
    """

    batch: Positive
    calls: Positive
    threads: Positive


class TriedWay(_Section):
    """A way and what a tile took in each round, in which all ways took turns.

    Attributes:
        way: what was measured.
        wall_ms: milliseconds for a tile.
        cpu_ms: milliseconds of processor time for a tile.
    """

    way: Way
    wall_ms: tuple[Milliseconds, ...]
    cpu_ms: tuple[Milliseconds, ...]


class NetworkWays(_Section):
    """The ways that were measured for one network, the simplest first, and the one chosen."""

    chosen: Way
    tried: tuple[TriedWay, ...]


class PlanWays(_Section):
    """How a plan's networks run fastest where this was measured.

    Attributes:
        processor: what it was measured on, as `Parity.verified_on` names it.
        cpus: number of CPUs.
        segmenter, classifiers: what was measured.
    """

    processor: str
    cpus: Positive
    segmenter: NetworkWays
    classifiers: NetworkWays


def simplest_way(threads: int) -> Way:
    """Return the way of a network that was not measured: tile by tile, with all threads."""
    return Way(batch=1, calls=1, threads=threads)


def candidate_ways(cpus: int) -> tuple[Way, ...]:
    """Return the ways to measure on that many CPUs, the simplest first."""
    batches = (Way(batch=batch, calls=1, threads=cpus) for batch in _BATCHES)
    calls = min(cpus, _MOST_CALLS)
    side_by_side = (Way(batch=calls, calls=calls, threads=cpus // calls),) if calls > 1 else ()
    return simplest_way(cpus), *side_by_side, *batches


def chosen_way(tried: Sequence[TriedWay]) -> Way:
    """Return the fastest way, or the simplest where no other is clearly faster.

    Other programs disturb a measurement. So ways are compared with the simplest of the same round
    only, and another one must be faster in every round, by more than 3 % in the median, and not at
    the cost of more than 3 % of processor time.

    Args:
        tried: the simplest first, each with the same number of rounds.
    """
    simplest, *others = tried
    best, least = simplest.way, 1.0 - _LEAST_GAIN
    for each in others:
        wall = _ratios(each.wall_ms, simplest.wall_ms)
        cost = median(_ratios(each.cpu_ms, simplest.cpu_ms))
        if max(wall) < 1.0 and median(wall) < least and cost <= 1.0 + _MOST_COST:
            best, least = each.way, median(wall)
    return best


def _ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]
