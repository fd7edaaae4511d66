"""Draw the report's figures, each as text to embed in an HTML page."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from her2d.research.evaluation.calibration import Calibration
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.decision_curve import DecisionCurve
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.share_validation import RiskPoint, ValidatedSlides, agreement
from her2d.research.evaluation.slide_predictions import IntegratorPrediction
from her2d.research.evaluation.subgroups import SubgroupRow

INK, BROWN = "#23232b", "#79431a"
_FAINT, _BLUE = "#a8a8b2", "#2a5d9c"
_WIDE = 4.6
_SHARE_TICKS = (0, 1, 5, 10, 20, 40, 60, 80, 100)
_FOREST = ("sensitivity", "specificity")


def roc_figure(predictions: list[IntegratorPrediction], title: str) -> str | None:
    """Draw the ROC curve of slides by P of equation 1.

    Args:
        predictions: Predictions of one integrator on one test set.
        title: Title of the figure.

    Returns:
        SVG text, or None if one class is missing.
    """
    known = [
        c for c in predictions if not np.isnan(c.fraction) and c.true_status != "indeterminate"
    ]
    positive = [c.true_status == "positive" for c in known]
    if len(set(positive)) < 2:
        return None
    false_positive, sensitivity, _ = roc_curve(positive, [c.fraction for c in known])
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    axes.plot(false_positive, sensitivity, color=BROWN, linewidth=2)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return svg_text(figure)


def confusion_figure(confusion: Confusion, title: str) -> str:
    """Draw a confusion matrix of slides (paper, Figure S2) as SVG text."""
    cells = np.array([[confusion.tp, confusion.fn], [confusion.fp, confusion.tn]])
    figure, axes = _square(title)
    axes.imshow(cells, cmap="YlOrBr", vmin=0, vmax=max(1, int(cells.max()) * 1.4))
    for (row, column), count in np.ndenumerate(cells):
        axes.text(column, row, str(count), ha="center", va="center", fontsize=16, color=INK)
    axes.set(
        xticks=[0, 1],
        yticks=[0, 1],
        xticklabels=["positive", "negative"],
        yticklabels=["positive", "negative"],
        xlabel="predicted status",
        ylabel="true status",
    )
    return svg_text(figure)


def calibration_figure(found: Calibration, title: str) -> str:
    """Draw the observed share of strong tiles against p(strong) as SVG text."""
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    axes.plot(
        [b.predicted for b in found.bins],
        [b.observed for b in found.bins],
        color=BROWN,
        marker="o",
    )
    axes.set(
        xlabel="p(strong)", ylabel="share of strong tiles", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    return svg_text(figure)


def agreement_figure(
    slides: ValidatedSlides,
    annotated: NDArray[np.float64],
    threshold_percent: float,
    title: str,
) -> str | None:
    """Draw P with its interval against the annotated share.

    Args:
        slides: The slides.
        annotated: Their annotated share, 0 to 1, float64 (S,); NaN if it is not known.
        threshold_percent: P from which a slide is positive.
        title: Title of the figure.

    Returns:
        SVG text, or None if no annotated share is known.
    """
    known = ~np.isnan(annotated)
    if not known.any():
        return None
    truth, share = 100 * annotated[known], 100 * slides.share[known]
    low, high = 100 * slides.low[known], 100 * slides.high[known]
    covered = (low <= truth) & (truth <= high)
    figure, axes = _square(title, _WIDE)
    axes.plot([0, 100], [0, 100], color=_FAINT, linewidth=1)
    axes.axhline(threshold_percent, color=_FAINT, linewidth=1, linestyle=":")
    axes.axvline(threshold_percent, color=_FAINT, linewidth=1, linestyle=":")
    for those, color, label in (
        (covered, BROWN, "in the interval"),
        (~covered, _BLUE, "not in the interval"),
    ):
        if those.any():
            count = f"{label}: {those.sum()}"
            axes.vlines(truth[those], low[those], high[those], color=color, linewidth=0.8)
            axes.scatter(
                truth[those], share[those], color=color, s=11, zorder=3, label=count, clip_on=False
            )
    # The root spreads the shares around the threshold, where calls are decided.
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_yscale("function", functions=(_root, np.square))
    axes.set(xticks=_SHARE_TICKS, yticks=_SHARE_TICKS)
    axes.set(xlabel="annotated share, %", ylabel="P, %", xlim=(0, 101), ylim=(0, 101))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return svg_text(figure)


def bland_altman_figure(
    slides: ValidatedSlides, annotated: NDArray[np.float64], title: str
) -> str | None:
    """Draw the difference of P and the annotated share against their mean.

    Args:
        slides: The slides.
        annotated: Their annotated share, 0 to 1, float64 (S,); NaN if it is not known.
        title: Title of the figure.

    Returns:
        SVG text, or None if fewer than two annotated shares are known.
    """
    known = ~np.isnan(annotated)
    if known.sum() < 2:
        return None
    truth, share = 100 * annotated[known], 100 * slides.share[known]
    found = agreement(slides, annotated, 0.0)
    figure, axes = _square(title)
    axes.scatter((truth + share) / 2, share - truth, color=BROWN, s=9)
    for height, style in ((found.bias, "-"), (found.limits_low, "--"), (found.limits_high, "--")):
        if height is not None:
            axes.axhline(height, color=INK, linewidth=1, linestyle=style)
    axes.set(xlabel="mean of P and the annotated share, %", ylabel="difference, points")
    return svg_text(figure)


def risk_coverage_figure(points: Sequence[RiskPoint], title: str) -> str | None:
    """Draw the share of wrong calls against the share of slides that are called.

    Args:
        points: The curve.
        title: Title of the figure.

    Returns:
        SVG text, or None without points.
    """
    if not points:
        return None
    figure, axes = _square(title)
    axes.step([p.called for p in points], [p.wrong for p in points], where="post", color=BROWN)
    axes.set(xlabel="share of slides called", ylabel="share of calls wrong", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    return svg_text(figure)


def decision_figure(curve: DecisionCurve, title: str) -> str:
    """Draw net benefit against the threshold probability as SVG text.

    Args:
        curve: The decision curve of a test set.
        title: Title of the figure.
    """
    figure, axes = _square(title, _WIDE)
    x = [point.threshold for point in curve.points]
    axes.axhline(0, color=INK, linewidth=1, label="none")
    axes.plot(x, [point.all for point in curve.points], color=_FAINT, label="all")
    axes.plot(
        x,
        [point.by_call for point in curve.points],
        color=_BLUE,
        linestyle="--",
        label="positive calls",
    )
    known = [point for point in curve.points if point.by_probability is not None]
    if known:
        x = [point.threshold for point in known]
        low, high = [p.low or 0.0 for p in known], [p.high or 0.0 for p in known]
        axes.fill_between(x, low, high, color=BROWN, alpha=0.15, linewidth=0)
        benefit = [point.by_probability or 0.0 for point in known]
        axes.plot(x, benefit, color=BROWN, linewidth=2, label="probability by P")
    prevalence = curve.prevalence or curve.positive / curve.slides
    axes.set(
        xlabel="threshold probability",
        ylabel="net benefit",
        xlim=(0, max(x)),
        ylim=(-0.25 * prevalence, 1.1 * prevalence),
    )
    axes.legend(fontsize=8, frameon=False)
    return svg_text(figure)


def forest_figure(rows: Sequence[SubgroupRow], title: str) -> str | None:
    """Draw sensitivity and specificity of subgroups with their intervals.

    Args:
        rows: Subgroups of one test set.
        title: Title of the figure.

    Returns:
        SVG text, or None without rows.
    """
    if not rows:
        return None
    figure = Figure(figsize=(8, 0.9 + 0.24 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=10, color=INK)
    places = range(len(rows))
    for axes, name in zip(figure.subplots(1, 2, sharey=True), _FOREST, strict=True):
        for place, row in zip(places, rows, strict=True):
            found: Interval = getattr(row, name)
            if found.value is None or found.low is None or found.high is None:
                continue
            color = _FAINT if row.is_small else BROWN
            axes.hlines(place, found.low, found.high, color=color, linewidth=1.4)
            axes.scatter([found.value], [place], color=color, s=16, zorder=3)
        axes.set(xlabel=name, xlim=(-0.02, 1.02))
        axes.set_yticks(
            places,
            [f"{row.by} {row.level.replace('_', ' ')} (n = {row.slides})" for row in rows],
        )
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#e6e6ea", linewidth=0.6)
    axes.invert_yaxis()
    return svg_text(figure)


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG text, which is the same for the same figure."""
    text = io.StringIO()
    # A fixed salt and no date, so that the same report gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "her2d"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _square(title: str, side: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, color=INK)
    return figure, axes


def _root(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(percent, 0))
