"""The results of a comparison as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.benchmark.machine import this_machine
from tools.benchmark.report import Spread
from tools.peers.agreement import Agreement
from tools.peers.contest import Standing


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contestants that did the same work.

    Attributes:
        title: what the work was.
        tiles: number of tiles in it.
        standings: the results; those of her2d are first.
        ours: names of her2d's, which the others are divided by.
        agreements: of the contestants that scored, by name.
        agree: whether they are within the bundle's tolerance, by name.
    """

    title: str
    tiles: int
    standings: Sequence[Standing]
    ours: Sequence[str]
    agreements: dict[str, Agreement]
    agree: dict[str, bool]


def ratio(standing: Standing, to: Standing) -> Spread:
    """Return processor time divided by another's, within each repeat."""
    pairs = zip(standing.turns, to.turns, strict=True)
    return Spread.of([mine.cpu_s / its.cpu_s for mine, its in pairs])


def markdown(comparisons: Sequence[Comparison], command: str, subject: str) -> str:
    """Return all tables, with the machine and the versions.

    Args:
        comparisons: at least one.
        command: that made them.
        subject: the bundle, in words.
    """
    machine = this_machine()
    versions: dict[str, str] = {}
    for comparison in comparisons:
        for standing in comparison.standings:
            versions |= standing.versions
    parts = [
        f"`{command}`",
        f"{machine.processor}, one of {machine.cores} cores (load average {machine.load:.1f}"
        f" before); {', '.join(f'{name} {versions[name]}' for name in sorted(versions))}."
        f" {subject} Seconds of processor time: median (least to most) of the repeats, in which the"
        " contestants take turns. Ratios are of one repeat each.",
        *(_table(comparison) for comparison in comparisons),
    ]
    return "\n\n".join(parts) + "\n"


def _table(comparison: Comparison) -> str:
    ours = [each for each in comparison.standings if each.name in comparison.ours and each.turns]
    scored = bool(comparison.agreements)
    levels = any("level" in standing.found for standing in comparison.standings)
    head = [
        "",
        "CPU, s",
        "ms a tile",
        *(f"x {each.name}" for each in ours),
        "peak, MiB",
        *(("level",) if levels else ()),
        *(("masks", "max dp", "change in P", "agrees") if scored else ()),
    ]
    rows = [
        [
            standing.name,
            _spread(Spread.of([turn.cpu_s for turn in standing.turns])),
            f"{1000 * standing.cpu_s / comparison.tiles:.3g}",
            *(_spread(ratio(standing, each)) for each in ours),
            f"{np.median([turn.peak_mib for turn in standing.turns]):.0f}",
            *((standing.found["level"],) if levels else ()),
            *(_agreement(comparison, standing.name) if scored else ()),
        ]
        for standing in comparison.standings
        if standing.turns
    ]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    missing = [
        f"Not measured: {standing.name}. {standing.problem}"
        for standing in comparison.standings
        if not standing.turns
    ]
    return "\n\n".join([f"**{comparison.title}** ({comparison.tiles} tiles)", table, *missing])


def _spread(spread: Spread) -> str:
    return f"{spread.median:.3g} ({spread.least:.3g} to {spread.most:.3g})"


def _agreement(comparison: Comparison, name: str) -> tuple[str, str, str, str]:
    found = comparison.agreements.get(name)
    if found is None:
        return ("", "", "", "")
    masks = "" if found.mask is None else f"{found.mask:.5f}"
    max_dp = "" if found.max_dp is None else f"{found.max_dp:.2g}"
    change = "" if found.change_in_p is None else f"{found.change_in_p:.2g}"
    if found.other_tiles:
        max_dp = f"{found.other_tiles} other tumour tiles"
    return masks, max_dp, change, "yes" if comparison.agree[name] else "NO"
