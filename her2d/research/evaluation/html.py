"""Render the report as one self-contained HTML page."""

from collections.abc import Sequence

import jinja2

from her2d.research.evaluation.report import Report


def render(
    report: Report,
    *,
    figures: Sequence[str],
    heatmaps: Sequence[str],
    share_figures: Sequence[str] = (),
) -> str:
    """Render the page.

    Args:
        report: The report.
        figures: SVG texts.
        heatmaps: Data URLs of images.
        share_figures: SVG texts about P and the annotated share.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("her2d.research.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "points": _points, "p_value": _p_value}
    sets = list(dict.fromkeys(row.set for row in report.slides))
    return environment.get_template("report.html.j2").render(
        report=report, sets=sets, figures=figures, heatmaps=heatmaps, share_figures=share_figures
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _p_value(value: float | None) -> str:
    return "NA" if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
