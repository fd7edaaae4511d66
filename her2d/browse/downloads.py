"""The queries whose rows can be downloaded, each under its name.

Other SQL cannot be sent, because any other query could take all memory and keep the list waiting.
On the machine itself, `sqlite3 -readonly` runs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from her2d.browse.asgi import BadParameter
from her2d.browse.database import QueryTooHeavy
from her2d.browse.pages import PARAMETERS, ListQuery
from her2d.results.export.results_csv import COLUMNS, csv_lines
from her2d.results.listing import results_after
from her2d.system.text import printable

CHUNK = 1000
"""Rows that are read at once."""

FILTERS = PARAMETERS - {"sort", "page"}
"""The list's parameters that `results` has, too."""

_FILE_COLUMNS = (
    "id", "file_name", "path", "inbox", "state", "reason", "attempts", "size", "slide_id", "run_id",
    "discovered_at", "started_at", "finished_at", "archived_path",
)  # fmt: skip

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a query.

    Attributes:
        rows: with the query's columns.
        after: the id after which the next rows follow; None if these are the last.
    """

    rows: list[Row]
    after: int | None


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query with a name.

    Attributes:
        title: what its rows are, in a sentence.
        columns: their names.
        parameters: which it has.
        read: reads the rows after an id.
    """

    title: str
    columns: tuple[str, ...]
    parameters: frozenset[str]
    read: Callable[[Database, Mapping[str, str], int], Rows]


def json_rows(query: NamedQuery, found: Rows) -> list[dict[str, Any]]:
    """Return rows as objects."""
    return [dict(zip(query.columns, row, strict=True)) for row in found.rows]


def csv_of(rows: list[Row] | list[tuple[str, ...]]) -> str:
    """Return rows as CSV. Characters that could steer a terminal are escaped, formulas quoted."""
    return csv_lines([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(value)
    return printable(value) if isinstance(value, str) else value


def _results(db: Database, given: Mapping[str, str], after: int) -> Rows:
    found = results_after(db, ListQuery.of(given).wanted, after, CHUNK)
    last = found[-1].slide_id if len(found) == CHUNK else None
    return Rows([tuple(result.model_dump(mode="json").values()) for result in found], last)


def _files(db: Database, _given: Mapping[str, str], after: int) -> Rows:
    rows = db.execute(
        f"select {', '.join(_FILE_COLUMNS)} from jobs where id > ? order by id limit ?",
        [after, CHUNK],
    ).fetchall()
    return Rows(rows, int(rows[-1][0]) if len(rows) == CHUNK else None)


def _view(name: str) -> Callable[[Database, Mapping[str, str], int], Rows]:
    """Return how to read a view with a row for each day or pair of bundles, all at once."""

    def read(db: Database, _given: Mapping[str, str], after: int) -> Rows:
        if after:
            raise BadParameter("This query has all its rows on one page.")
        rows = db.execute(f"select * from {name} limit ?", [_MOST_ROWS + 1]).fetchall()
        if len(rows) > _MOST_ROWS:
            raise QueryTooHeavy(f"The query has more than {_MOST_ROWS} rows.")
        return Rows(rows, None)

    return read


_MOST_ROWS = 20_000  # days of 50 years

QUERIES: Mapping[str, NamedQuery] = {
    "results": NamedQuery("The current result of each slide.", COLUMNS, FILTERS, _results),
    "files": NamedQuery(
        "Every file that was found, with its state and the reason for it.",
        _FILE_COLUMNS,
        frozenset(),
        _files,
    ),
    "daily_counts": NamedQuery(
        "Current results by day (UTC).",
        ("day", "slides", "positive", "negative", "indeterminate", "borderline"),
        frozenset(),
        _view("daily_counts"),
    ),
    "throughput": NamedQuery(
        "Runs and their times by day (UTC).",
        ("day", "runs", "tiles", "mean_elapsed_s", "slowest_s", "tiles_per_s", "mean_waited_s"),
        frozenset(),
        _view("throughput"),
    ),
    "bundle_agreement": NamedQuery(
        "How many slides two bundles gave each pair of statuses.",
        ("first_bundle", "second_bundle", "first_status", "second_status", "slides"),
        frozenset(),
        _view("bundle_agreement"),
    ),
}
