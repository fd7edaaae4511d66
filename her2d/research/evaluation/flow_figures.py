"""Draw Figures 1, 2 and S1: boxes and arrows with the study's own numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from her2d.research.evaluation.figures import BROWN, INK, svg_text
from her2d.research.evaluation.participants import SetCounts
from her2d.research.evaluation.report import SlideRow

_BOX = {"boxstyle": "round,pad=0.5", "facecolor": "#fbf3ea", "edgecolor": BROWN, "linewidth": 1}
_SET_NAMES = {
    "train": "five folds",
    "integrator": "kept apart for the integrator",
    "test": "internal test set",
    "external": "external test set",
}


@dataclass(frozen=True, slots=True)
class Workflow:
    """What a study's bundle does, for Figure 2.

    Attributes:
        segmenter, classifier, integrator: Names of the selected models.
        tile_cut: Probability above which a tile is strong.
        threshold_percent: P from which a slide is positive.
    """

    segmenter: str
    classifier: str
    integrator: str
    tile_cut: float
    threshold_percent: float


def participants_figure(sets: Sequence[SetCounts], rows: Sequence[SlideRow]) -> str:
    """Draw how the cohort was divided, and how many test slides were called (Figure 1).

    Args:
        sets: Slides of each split.
        rows: The bundle's rows of Table S4.

    Returns:
        SVG text.
    """
    figure, axes = _page(10, 4.4)
    slides = sum(each.slides for each in sets)
    patients = sum(each.patients for each in sets)
    top = (0.5, 0.9)
    _box(axes, top, f"cohort\n{slides} slides of {patients} patients")
    called = {row.set: row for row in rows}
    for number, each in enumerate(sets):
        at = ((number + 0.5) / len(sets), 0.5)
        known = each.positive + each.negative
        share = f" ({100 * each.positive / known:.1f} %)" if known else ""
        _arrow(axes, (top[0], top[1] - 0.08), (at[0], at[1] + 0.15))
        _box(
            axes,
            at,
            f"{_SET_NAMES[each.set]}\n{each.slides} slides of {each.patients} patients\n"
            f"{each.positive} positive{share}\n{each.negative} negative\n"
            f"{each.without_tumor} without tumour",
        )
        row = called.get(each.set)
        if row is not None:
            below = (at[0], 0.09)
            _arrow(axes, (at[0], at[1] - 0.16), (below[0], below[1] + 0.1))
            _box(
                axes,
                below,
                f"{row.confusion.total} called: {row.confusion.tp + row.confusion.fp} positive,"
                f" {row.confusion.tn + row.confusion.fn} negative\n"
                f"{row.indeterminate} with tumour without a call",
            )
    return svg_text(figure)


def workflow_figure(workflow: Workflow) -> str:
    """Draw what the bundle does with a slide (Figure 2), as SVG text."""
    steps = (
        "H&E slide\ntiles of 512 x 512\nat 4x",
        f"{workflow.segmenter}\ntumour pixels;\ntiles over 10 % tumour",
        f"5 x {workflow.classifier}\nfive p(strong)\nof each tile",
        f"{workflow.integrator}\nstrong above\n{workflow.tile_cut:.3g}",
        "P: strong tumour\npixels of all\ntumour pixels",
        f"positive from\n{workflow.threshold_percent:g} %",
    )
    figure, axes = _page(10, 1.5)
    places = [((number + 0.5) / len(steps), 0.5) for number in range(len(steps))]
    for one, other in pairwise(places):
        _arrow(axes, (one[0] + 0.062, 0.5), (other[0] - 0.066, 0.5))
    for at, text in zip(places, steps, strict=True):
        _box(axes, at, text)
    return svg_text(figure)


def status_figure(sets: Sequence[SetCounts]) -> str:
    """Draw how the true HER2 status follows from IHC and FISH, with counts (Figure S1).

    Returns:
        SVG text.
    """
    counts: dict[str, int] = {}
    for each in sets:
        for score, slides in each.by_ihc.items():
            counts[score] = counts.get(score, 0) + slides
    fish = {name: counts.get(f"2+, FISH {name}", 0) for name in ("positive", "negative")}
    positive = sum(each.positive for each in sets)
    negative = sum(each.negative for each in sets)
    figure, axes = _page(10, 3.4)
    root = (0.09, 0.5)
    _box(axes, root, f"HER2 IHC\n{sum(each.slides for each in sets)} slides")
    scores = {
        "0": (0.33, 0.9, counts.get("0", 0)),
        "1+": (0.33, 0.66, counts.get("1+", 0)),
        "2+": (0.33, 0.42, sum(fish.values())),
        "3+": (0.33, 0.18, counts.get("3+", 0)),
    }
    statuses = {"negative": (0.88, 0.72), "positive": (0.88, 0.24)}
    for score, (x, y, slides) in scores.items():
        _arrow(axes, (root[0] + 0.07, root[1]), (x - 0.08, y))
        _box(axes, (x, y), f"IHC {score}: {slides}")
    for score, status in (("0", "negative"), ("1+", "negative"), ("3+", "positive")):
        x, y, _ = scores[score]
        at = statuses[status]
        _arrow(axes, (x + 0.08, y), (at[0] - 0.1, at[1]))
    _arrow(axes, (0.41, 0.42), (0.53, 0.42))
    for x, y in statuses.values():
        _arrow(axes, (0.68, 0.42), (x - 0.1, y))
    _box(
        axes,
        (0.605, 0.42),
        f"FISH or other ISH\npositive: {fish['positive']}\nnegative: {fish['negative']}",
    )
    for status, slides in (("negative", negative), ("positive", positive)):
        _box(axes, statuses[status], f"HER2-{status}\n{slides} slides")
    without = sum(each.without_tumor for each in sets)
    axes.text(0.88, 0.0, f"without tumour: {without}", ha="center", va="bottom", fontsize=9)
    return svg_text(figure)


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, at: tuple[float, float], text: str) -> None:
    axes.text(*at, text, ha="center", va="center", fontsize=9, color=INK, bbox=_BOX)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": BROWN, "linewidth": 1}
    )
