"""Read the CSV in which a laboratory gives the IHC and FISH results of its slides."""

import csv
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

from her2d.calibration.outcome import Fish, Ihc
from her2d.errors import Her2dError
from her2d.system.files import open_table

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
_SURPLUS = "surplus"
_DELIMITERS = (";", "\t", ",")


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
        with open_table(path) as file:
            header = file.readline()
            delimiter = next((each for each in _DELIMITERS if each in header), ",")
            names = _names(path, next(csv.reader([header], delimiter=delimiter), []))
            reader = csv.DictReader(
                file, names, restval="", restkey=_SURPLUS, delimiter=delimiter, strict=True
            )
            rows = [(reader.line_num + 1, row) for row in reader]
    except UnicodeDecodeError as error:
        raise OutcomesError(
            f"{path} is not UTF-8. Save it again as CSV with the encoding UTF-8."
        ) from error
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutcomesError(f"{path} cannot be read: {reason}.") from error
    good: list[OutcomeRow] = []
    bad: list[BadRow] = []
    for line, row in rows:
        if not any(row.values()):
            continue
        try:
            good.append(_row(line, row))
        except ValueError as error:
            bad.append(BadRow(line, str(error)))
    if not good and not bad:
        raise OutcomesError(f"{path} does not list any outcomes.")
    return good, bad


def _names(path: Path, header: list[str]) -> list[str]:
    """Return the header's column names. Raises OutcomesError if one is missing or not known."""
    names = [cell.strip().lower() for cell in header]
    known = ", ".join(COLUMNS)
    for name in names:
        if name not in COLUMNS:
            raise OutcomesError(f"{path}: {name!r} is not a column; the columns are {known}.")
        if names.count(name) > 1:
            raise OutcomesError(f"{path}: the column {name!r} is there twice.")
    for name in _REQUIRED:
        if name not in names:
            raise OutcomesError(f"{path}: the column {name!r} is missing; the columns are {known}.")
    return names


def _row(line: int, row: Mapping[str, str]) -> OutcomeRow:
    """Parse one row. Raises ValueError with the reason in words."""
    if _SURPLUS in row:
        raise ValueError("the row has more cells than the header.")
    cells = {name: value.strip() for name, value in row.items()}
    if not cells["slide"]:
        raise ValueError("slide is empty.")
    return OutcomeRow(
        line=line,
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
    try:
        percent = float(cell.rstrip("% ").replace(",", "."))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
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
