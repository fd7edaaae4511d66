"""`her2d evaluate`: how good the models are, and where they fail."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.cli.errors import UserError
from her2d.cli.options import JsonOption

if TYPE_CHECKING:
    from her2d.evaluation.misdiagnosis import FeatureTest

app = typer.Typer(help="How good the models are, and where they fail.", no_args_is_help=True)


@app.command("misdiagnosis")
def misdiagnosis(
    counts: Annotated[
        Path, typer.Option(help="CSV of table, feature, level, fn, tp, fp, tn; one row a level.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Test which features go with wrong calls, as in the paper's Tables 3 and 4."""
    from her2d.evaluation.counts import CountsError, read_counts
    from her2d.evaluation.misdiagnosis import misdiagnosis_tests

    try:
        tests = misdiagnosis_tests(read_counts(counts))
    except CountsError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{counts}: {error}.") from error
    if as_json:
        typer.echo(json.dumps([asdict(test) for test in tests], indent=2))
        return
    Console().print(_tests_table(tests))


def _tests_table(tests: "list[FeatureTest]") -> Table:
    table = Table("table", "feature", "level")
    for heading in ("FN", "TP", "P", "exact P", "FP", "TN", "P", "exact P"):
        table.add_column(heading, justify="right")
    for test in tests:
        for number, level in enumerate(test.levels):
            first = number == 0
            table.add_row(
                level.table if first else "",
                level.feature if first else "",
                level.level,
                str(level.fn),
                str(level.tp),
                _p(test.positive.chi_square) if first else "",
                _p(test.positive.fisher) if first else "",
                str(level.fp),
                str(level.tn),
                _p(test.negative.chi_square) if first else "",
                _p(test.negative.fisher) if first else "",
            )
    return table


def _p(value: float | None) -> str:
    return "NA" if value is None else f"{value:.3f}"
