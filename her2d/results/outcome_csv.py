"""Read the CSV in which a laboratory gives the IHC and FISH results of its slides."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

from her2d.calibration.outcome import Fish, Ihc
from her2d.errors import Her2dError
from her2d.system.csv_table import SURPLUS, TableError, TableRow, read_table
from her2d.system.numerals import read_number

COLUMNS = {
    "slide": "Slide id, file name or barcode, as for `her2d show`; id:7, barcode:7 or name:7 where"
    " it means several.",
    "ihc": "IHC score: 0, 1+, 2+ or 3+.",
    "fish": "FISH: amplified, not amplified, or empty if it was not done.",
    "ihc_percent": "Share of the tumour that is HER2-high by IHC, 0 to 100; empty if not known.",
    "patient": "A name that slides of the same patient share, such as a case number. Empty if each"
    " slide is of another patient.",
    "read_on": "Day of the reading, such as 2026-03-01.",
    "read_by": "Who read IHC and FISH.",
}
"""The columns by name. Only `slide` and `ihc` must be there, in any order."""

T = TypeVar("T")

_REQUIRED = ("slide", "ihc")


class OutcomesError(Her2dError):
    """Outcomes cannot be used; `str(error)` says why, and `problems` has a sentence a row."""

    def __init__(self, sentence: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One row of the file.

    Attributes:
        line: its line in the file, from 1.
        slide: what names the slide.
        ihc_percent: share of HER2-high tumour by IHC, None if it is not known.
        read_on: ISO-8601 day.
    """

    line: int
    slide: str
    ihc: Ihc
    fish: Fish | None = None
    ihc_percent: float | None = None
    patient: str | None = None
    read_on: str | None = None
    read_by: str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


def read_outcomes(path: Path) -> tuple[list[OutcomeRow], list[BadRow]]:
    """Read the rows of a CSV file, UTF-8, separated by commas, semicolons or tabs.

    Empty rows are skipped.

    Returns:
        The rows that can be used, and those that cannot.

    Raises:
        OutcomesError: the file cannot be read, or its header is not as `COLUMNS` has it.
    """
    try:
        table = read_table(path, known=COLUMNS, required=_REQUIRED)
    except TableError as error:
        raise OutcomesError(str(error)) from error
    for name in table.columns:
        if name not in COLUMNS:
            raise OutcomesError(
                f"{path}: {name!r} is not a column; the columns are {', '.join(COLUMNS)}."
            )
    good: list[OutcomeRow] = []
    bad: list[BadRow] = []
    for row in table.rows:
        try:
            good.append(_row(row))
        except ValueError as error:
            bad.append(BadRow(row.line, str(error)))
    if not good and not bad:
        raise OutcomesError(f"{path} does not list any outcomes.")
    return good, bad


def _row(row: TableRow) -> OutcomeRow:
    """Parse one row. Raises ValueError with the reason in words."""
    if row.has_surplus:
        raise ValueError(f"{SURPLUS}.")
    cells = row.cells
    if not cells["slide"]:
        raise ValueError("slide is empty.")
    return OutcomeRow(
        line=row.line,
        slide=cells["slide"],
        ihc=_ihc(cells["ihc"]),
        fish=_optional(cells.get("fish", ""), _fish),
        ihc_percent=_optional(cells.get("ihc_percent", ""), _percent),
        patient=cells.get("patient") or None,
        read_on=_optional(cells.get("read_on", ""), _day),
        read_by=cells.get("read_by") or None,
    )


def _optional(cell: str, parse: Callable[[str], T]) -> T | None:
    return parse(cell) if cell else None


def _ihc(cell: str) -> Ihc:
    # Spreadsheets drop the sign of "+2", and Chinese keyboards type a wide one.
    text = unicodedata.normalize("NFKC", cell)
    for score in Ihc:
        if text in (score.value, score.value.rstrip("+")):
            return score
    raise ValueError(f"ihc must be 0, 1+, 2+ or 3+ (found {cell!r}).")


def _fish(cell: str) -> Fish:
    text = " ".join(cell.lower().replace("-", " ").replace("_", " ").split())
    for fish in Fish:
        if text == fish.value:
            return fish
    raise ValueError(f"fish must be amplified, not amplified or empty (found {cell!r}).")


def _percent(cell: str) -> float:
    percent = read_number(cell.rstrip("%％ "))
    if percent is None or not 0 <= percent <= 100:
        raise ValueError(f"ihc_percent must be a number from 0 to 100 or empty (found {cell!r}).")
    return percent


def _day(cell: str) -> str:
    try:
        day = date.fromisoformat(cell)
    except ValueError as error:
        raise ValueError(f"read_on must be a day such as 2026-03-01 (found {cell!r}).") from error
    if day > datetime.now(UTC).astimezone().date():
        raise ValueError(f"read_on is in the future (found {cell!r}).")
    return day.isoformat()
