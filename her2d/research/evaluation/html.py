"""Render the report as one self-contained HTML page, which is also what its PDF is made from."""

import jinja2

from her2d.research.evaluation.patients import PATIENT_RULE
from her2d.research.evaluation.reflex_testing import LOWEST_NPV
from her2d.research.evaluation.report import Report
from her2d.research.evaluation.report_figures import ReportFigures
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.subgroups import FEWEST


def render(report: Report, figures: ReportFigures) -> str:
    """Render the page.

    Args:
        report: The report.
        figures: Its figures.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("her2d.research.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "points": _points,
        "size": _size,
        "p_value": _p_value,
        "interval": _interval,
        "percent": _percent,
        "of": _of,
        "words": _words,
    }
    return environment.get_template("report.html.j2").render(
        report=report,
        figures=figures,
        sets=list(dict.fromkeys(row.set for row in report.slides)),
        patient_rule=PATIENT_RULE,
        lowest_npv=LOWEST_NPV,
        fewest=FEWEST,
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _p_value(value: float | None) -> str:
    return "NA" if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _size(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _interval(found: Interval, digits: int = 3) -> str:
    return found.text(digits) or "–"


def _of(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else f"{part}"


def _words(name: str) -> str:
    return name.replace("_", " ")
