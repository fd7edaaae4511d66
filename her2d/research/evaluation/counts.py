"""Read the CSV of `her2d evaluate misdiagnosis --counts`, one row per level of a feature."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from her2d.errors import Her2dError
from her2d.research.evaluation.misdiagnosis import LevelCounts
from her2d.system.csv_table import SURPLUS, TableError, TableRow, read_table

Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


class CountsError(Her2dError):
    """The counts cannot be used; `str(error)` names the file, the line and the column."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    table: Name
    feature: Name
    level: Name
    fn: Count
    tp: Count
    fp: Count
    tn: Count


def read_counts(path: Path) -> list[LevelCounts]:
    """Read a CSV with the columns table, feature, level, fn, tp, fp and tn.

    Args:
        path: The CSV file.

    Raises:
        CountsError: The file cannot be read, or a row is not valid.
    """
    try:
        rows = read_table(path, known=_Row.model_fields, required=[*_Row.model_fields]).rows
    except TableError as error:
        raise CountsError(str(error)) from error
    if not rows:
        raise CountsError(f"{path} does not list any counts.")
    return [_level(path, row) for row in rows]


def _level(path: Path, row: TableRow) -> LevelCounts:
    if row.has_surplus:
        raise CountsError(f"{path}, line {row.line}: {SURPLUS}.")
    try:
        return LevelCounts(**_Row.model_validate(row.cells).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise CountsError(
            f"{path}, line {row.line}, {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error
