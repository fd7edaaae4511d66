"""Draw the report's figures, each as text to embed in an HTML page."""

import base64
import io
from collections.abc import Sequence

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from her2d.pipeline.outcome import TileClass
from her2d.research.evaluation.calibration import Calibration
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.share_validation import RiskPoint, ValidatedSlides, agreement
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, PredictedSlide
from her2d.results.heatmap import HeatmapData, render_heatmap

_INK, _BROWN = "#23232b", "#79431a"
_HEATMAP_SIDE = 900


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
    axes.plot([0, 1], [0, 1], color="#c0c0c8", linewidth=1)
    axes.plot(false_positive, sensitivity, color=_BROWN, linewidth=2)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _svg(figure)


def confusion_figure(confusion: Confusion, title: str) -> str:
    """Draw a confusion matrix of slides (paper, Figure S2) as SVG text."""
    cells = np.array([[confusion.tp, confusion.fn], [confusion.fp, confusion.tn]])
    figure, axes = _square(title)
    axes.imshow(cells, cmap="YlOrBr", vmin=0, vmax=max(1, int(cells.max()) * 1.4))
    for (row, column), count in np.ndenumerate(cells):
        axes.text(column, row, str(count), ha="center", va="center", fontsize=16, color=_INK)
    axes.set(
        xticks=[0, 1],
        yticks=[0, 1],
        xticklabels=["positive", "negative"],
        yticklabels=["positive", "negative"],
        xlabel="predicted status",
        ylabel="true status",
    )
    return _svg(figure)


def calibration_figure(found: Calibration, title: str) -> str:
    """Draw the observed share of strong tiles against p(strong) as SVG text."""
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color="#c0c0c8", linewidth=1)
    axes.plot(
        [b.predicted for b in found.bins],
        [b.observed for b in found.bins],
        color=_BROWN,
        marker="o",
    )
    axes.set(
        xlabel="p(strong)", ylabel="share of strong tiles", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    return _svg(figure)


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
    figure, axes = _square(title)
    axes.plot([0, 100], [0, 100], color="#c0c0c8", linewidth=1)
    axes.axhline(threshold_percent, color="#c0c0c8", linewidth=1, linestyle=":")
    axes.axvline(threshold_percent, color="#c0c0c8", linewidth=1, linestyle=":")
    axes.vlines(truth, low, high, color=_BROWN, linewidth=0.6, alpha=0.5)
    axes.scatter(truth, share, color=_BROWN, s=9, zorder=3)
    axes.set(xlabel="annotated share, %", ylabel="P, %", xlim=(-2, 102), ylim=(-2, 102))
    return _svg(figure)


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
    axes.scatter((truth + share) / 2, share - truth, color=_BROWN, s=9)
    for height, style in ((found.bias, "-"), (found.limits_low, "--"), (found.limits_high, "--")):
        if height is not None:
            axes.axhline(height, color=_INK, linewidth=1, linestyle=style)
    axes.set(xlabel="mean of P and the annotated share, %", ylabel="difference, points")
    return _svg(figure)


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
    axes.step([p.called for p in points], [p.wrong for p in points], where="post", color=_BROWN)
    axes.set(xlabel="share of slides called", ylabel="share of calls wrong", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    return _svg(figure)


def heatmap_figure(found: PredictedSlide) -> str:
    """Draw a slide's heatmap as in the paper's Figures 3 and 4.

    Returns:
        Data URL of a JPEG with at most 900 pixels per side.

    Raises:
        OSError: The image cannot be encoded.
    """
    outcome, score = found.outcome, found.outcome.score
    grid, overview = outcome.grid, outcome.overview
    scale = overview.tile_px / grid.tile_size
    percent = score.high_expression_percent
    image = render_heatmap(
        HeatmapData(
            rgb=overview.rgb,
            tumor=overview.tumor,
            tile_px=overview.tile_px,
            p_strong=outcome.p_strong,
            strong=outcome.tile_class == TileClass.STRONG,
            unreadable=outcome.tile_class == TileClass.UNREADABLE,
            um_per_px=grid.um_per_px / scale,
            width=max(1, round(grid.width * scale)),
            height=max(1, round(grid.height * scale)),
            title=found.slide.name,
            subtitle=(
                f"true {found.slide.her2_status.value}, predicted {score.her2_status.value}"
                + ("" if percent is None else f" at {percent:.1f} %")
            ),
        )
    )
    shrink = _HEATMAP_SIDE / max(image.shape[:2])
    small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    coded, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if not coded:
        raise OSError(f"cannot encode the heatmap of {found.slide.name}")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _square(title: str) -> tuple[Figure, "mpl.axes.Axes"]:
    figure = Figure(figsize=(3.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, color=_INK)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # A fixed salt and no date, so that the same report gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "her2d"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
