"""Results as CSV, for spreadsheets and statistics."""

import csv
import io
from collections.abc import Iterable

from her2d.results.records import SlideResult
from her2d.system.text import no_formula

COLUMNS = tuple(SlideResult.model_fields)
"""The column names of the view `slide_results` that a result has."""


def results_csv(found: Iterable[SlideResult]) -> str:
    """Return results as CSV, one a line, under their columns' names."""
    return csv_lines([COLUMNS]) + csv_lines(map(csv_row, found))


def csv_row(result: SlideResult) -> list[object]:
    """Return a result's cells, in the order of the columns."""
    values = result.model_dump(mode="json")
    values["quality_flags"] = " ".join(values["quality_flags"])
    return list(values.values())


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as lines of CSV. No cell is a formula for a spreadsheet."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    for row in rows:
        table.writerow(no_formula(cell) if isinstance(cell, str) else cell for cell in row)
    return out.getvalue()
