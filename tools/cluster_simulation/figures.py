"""The figures of the documentation, as SVG that is the same for the same numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tools.cluster_simulation.scenarios import NODES, Point

_SIZE = (7.0, 4.2)
_BUSY = 0.05  # less is not shown


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(
        {
            "svg.hashsalt": "her2d",
            "svg.fonttype": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        yield


def draw_curves(curves: Sequence[Sequence[Point]], path: Path) -> None:
    """Draw slides an hour against nodes, and as thin lines what nodes without limits would do."""
    with _style():
        figure = Figure(_SIZE, layout="constrained")
        axes = figure.subplots()
        for points in curves:
            rates = [point.found.slides_an_hour for point in points]
            (line,) = axes.plot(NODES, rates, marker="o", label=points[0].scenario.name)
            ideal = [rates[0] * nodes for nodes in NODES]
            axes.plot(NODES, ideal, color=line.get_color(), linewidth=0.6, linestyle=":")
        axes.set_yscale("log")
        axes.set_ylabel("slides an hour")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _nodes_below(axes)
        _save(figure, path)


def draw_busy(points: Sequence[Point], path: Path) -> None:
    """Draw the share of the time that each part of the site is busy against nodes."""
    with _style():
        figure = Figure(_SIZE, layout="constrained")
        axes = figure.subplots()
        for part in points[0].found.busy:
            shares = [100 * point.found.busy[part] for point in points]
            if max(shares) > 100 * _BUSY:
                axes.plot(NODES, shares, marker="o", label=part)
        axes.set_ylim(0, 105)
        axes.set_ylabel("busy, % of the time")
        _nodes_below(axes)
        _save(figure, path)


def _nodes_below(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(NODES, [str(nodes) for nodes in NODES])
    axes.set_xlabel("nodes")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(frameon=False, fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
