"""Draw Figures 1, 2 and S1: boxes and arrows with the study's own numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from her2d.method import SATURATION, TILE_PX, TUMOR_FRACTION
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
    top = _box(axes, (0.5, 0.9), f"cohort\n{slides} slides of {patients} patients")
    called = {row.set: row for row in rows}
    for number, each in enumerate(sets):
        at = ((number + 0.5) / len(sets), 0.5)
        box = _box(
            axes,
            at,
            f"{_SET_NAMES[each.set]}\n{each.slides} slides of {each.patients} patients\n"
            f"{each.positive} positive ({100 * each.positive / each.slides:.1f} %)\n"
            f"{each.negative} negative\n{each.without_tumor} without tumour",
        )
        _arrow(axes, top, box)
        row = called.get(each.set)
        if row is not None:
            below = _box(
                axes,
                (at[0], 0.09),
                f"{row.confusion.total} called: {row.confusion.tp + row.confusion.fp} positive,"
                f" {row.confusion.tn + row.confusion.fn} negative\n"
                f"{row.indeterminate} with tumour without a call",
            )
            _arrow(axes, box, below)
    return svg_text(figure)


def workflow_figure(workflow: Workflow) -> str:
    """Draw what the bundle does with a slide (Figure 2), as SVG text."""
    steps = (
        f"H&E slide\n{TILE_PX} x {TILE_PX} tiles at 4x,\nsaturation over {SATURATION:g}",
        f"{workflow.segmenter}\ntiles with over\n{100 * TUMOR_FRACTION:g} % tumour",
        f"5 x {workflow.classifier}\nfive p(strong)\nof each tile",
        f"{workflow.integrator}\nstrong above\n{workflow.tile_cut:.3g}",
        "P: strong tumour\npixels of all\ntumour pixels",
        f"positive from\n{workflow.threshold_percent:g} %",
    )
    figure, axes = _page(11, 1.3)
    boxes = [
        _box(axes, ((number + 0.5) / len(steps), 0.5), text) for number, text in enumerate(steps)
    ]
    for one, other in pairwise(boxes):
        _arrow(axes, one, other)
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
    by_score = {
        **{score: counts.get(score, 0) for score in ("0", "1+", "3+")},
        "2+": sum(fish.values()),
    }
    heights = {"0": 0.9, "1+": 0.66, "2+": 0.42, "3+": 0.18}
    root = _box(axes, (0.09, 0.5), f"HER2 IHC\n{sum(by_score.values())} slides")
    scores = {
        score: _box(axes, (0.33, height), f"IHC {score}: {by_score[score]}")
        for score, height in heights.items()
    }
    tested = _box(
        axes,
        (0.605, heights["2+"]),
        f"FISH or other ISH\npositive: {fish['positive']}\nnegative: {fish['negative']}",
    )
    statuses = {
        status: _box(axes, (0.88, height), f"HER2-{status}\n{slides} slides")
        for status, height, slides in (("negative", 0.72, negative), ("positive", 0.24, positive))
    }
    for box in scores.values():
        _arrow(axes, root, box)
    for score, status in (("0", "negative"), ("1+", "negative"), ("3+", "positive")):
        _arrow(axes, scores[score], statuses[status])
    _arrow(axes, scores["2+"], tested)
    for box in statuses.values():
        _arrow(axes, tested, box)
    without = sum(each.without_tumor for each in sets)
    axes.text(0.88, 0.0, f"without tumour: {without}", ha="center", va="bottom", fontsize=9)
    return svg_text(figure)


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, at: tuple[float, float], text: str) -> Text:
    return axes.text(*at, text, ha="center", va="center", fontsize=9, color=INK, bbox=_BOX)


def _arrow(axes: Axes, start: Text, end: Text) -> None:
    """Draw an arrow from the edge of a box to the edge of another, which were drawn before."""
    axes.annotate(
        "",
        xy=end.get_position(),
        xytext=start.get_position(),
        arrowprops={
            "arrowstyle": "-|>",
            "color": BROWN,
            "linewidth": 1,
            "patchA": start.get_bbox_patch(),
            "patchB": end.get_bbox_patch(),
        },
    )
