"""Read CSV files that people write with a spreadsheet."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from her2d.errors import Her2dError
from her2d.system.files import open_table

SURPLUS = "the row has text in a column that the header does not name"
"""What is wrong with a row that `has_surplus`."""

_DELIMITERS = (",", ";", "\t")


class TableError(Her2dError):
    """A CSV file cannot be used; `str(error)` begins with its path and says why."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row with at least one cell that is not empty.

    Attributes:
        line: Its last line in the file, from 1.
        cells: Its cells by column, without blanks around them; "" where the row is too short.
        has_surplus: Whether it has text in a column that the header does not name.
    """

    line: int
    cells: Mapping[str, str]
    has_surplus: bool


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file in their order, and its rows."""

    columns: Sequence[str]
    rows: Sequence[TableRow]


def read_table(path: Path, *, known: Collection[str], required: Sequence[str]) -> Table:
    """Read a CSV file, UTF-8, separated by commas, semicolons or tabs.

    It may begin with a byte order mark. Rows without any text are skipped.

    Args:
        path: The file.
        known: Names of columns that are found without regard to case.
        required: Those that must be there.

    Raises:
        TableError: The file cannot be read or is not such a table, or a column is missing or there
            twice.
    """
    try:
        with open_table(path) as file:
            header = file.readline()
            delimiter = min(_DELIMITERS, key=lambda each: _missing(header, each, known, required))
            names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
            columns = _columns(path, names, known, required)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [_row(reader.line_num + 1, columns, cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path} is not UTF-8. Save it again as CSV with the encoding UTF-8."
        ) from error
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TableError(f"{path} cannot be read: {reason}.") from error
    return Table(
        [name for name in columns if name],
        [row for row in rows if row.has_surplus or any(row.cells.values())],
    )


def _missing(header: str, delimiter: str, known: Collection[str], required: Sequence[str]) -> int:
    """Count the required columns that a header lacks if its names are separated so."""
    try:
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return len(required)
    found = _names(names, known)
    return sum(name not in found for name in required)


def _names(header: Sequence[str], known: Collection[str]) -> list[str]:
    return [name.lower() if name.lower() in known else name for name in map(str.strip, header)]


def _columns(
    path: Path, header: Sequence[str], known: Collection[str], required: Sequence[str]
) -> list[str]:
    names = _names(header, known)
    for name in names:
        if name and names.count(name) > 1:
            raise TableError(f"{path}: the column {name!r} is there twice.")
    missing = [name for name in required if name not in names]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        verb = "is" if len(missing) == 1 else "are"
        raise TableError(
            f"{path}: the {columns} {', '.join(map(repr, missing))} {verb} missing. The first line"
            " must name the columns."
        )
    return names


def _row(line: int, columns: Sequence[str], cells: Sequence[str]) -> TableRow:
    pairs = [(name, text.strip()) for name, text in zip_longest(columns, cells, fillvalue="")]
    return TableRow(
        line,
        {name: text for name, text in pairs if name},
        has_surplus=any(text for name, text in pairs if not name),
    )
