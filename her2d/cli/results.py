"""`her2d results`, `show` and `heatmap`: read what was found, while the daemon goes on writing."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.database import open_readonly
from her2d.results import SlideResult, find_slide, list_results
from her2d.scoring import Her2Status

SlideArgument = Annotated[str, typer.Argument(help="Slide id, file name or barcode.")]

_STYLES = {
    Her2Status.POSITIVE: "bold red",
    Her2Status.NEGATIVE: "green",
    Her2Status.INDETERMINATE: "yellow",
}


def results(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    status: Annotated[Her2Status | None, typer.Option(help="Only slides of this status.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the current result of each slide, newest first."""
    db = open_readonly(settings_of(config).results.database)
    found = list_results(db, limit=limit, status=status)
    if as_json:
        typer.echo(json.dumps([result.model_dump(mode="json") for result in found], indent=2))
        return
    console = Console(markup=False)
    console.print(result_table(found))
    refused = next(db.query("select count(*) as n from jobs where state = 'quarantined'"))["n"]
    if refused:
        console.print(
            f"{refused} file{'s' if refused > 1 else ''} could not be processed:"
            " her2d queue ls --state quarantined"
        )


def show(slide: SlideArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print everything known of one slide's result."""
    db = open_readonly(settings_of(config).results.database)
    result = find_slide(db, slide)
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    table = Table(title=result.file_name, show_header=False)
    for name, value in result.model_dump().items():
        table.add_row(name, "" if value is None else str(value))
    Console(markup=False).print(table)


def heatmap(
    slide: SlideArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Copy the PNG here.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print where a slide's heatmap lies, or copy it."""
    db = open_readonly(settings_of(config).results.database)
    result = find_slide(db, slide)
    if result.heatmap_path is None or not Path(result.heatmap_path).is_file():
        raise UserError(f"The heatmap of {result.file_name} is not there: {result.heatmap_path}.")
    if output is None:
        typer.echo(result.heatmap_path)
        return
    try:
        shutil.copyfile(result.heatmap_path, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(str(output))


def result_table(found: Iterable[SlideResult]) -> Table:
    """One row for each result, as `results`, `scan` and `demo` print it."""
    table = Table()
    table.add_column("id", justify="right")
    table.add_column("slide", overflow="fold")
    table.add_column("HER2")
    table.add_column("high expression", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("tumour tiles", justify="right")
    table.add_column("remark", overflow="fold")
    for result in found:
        status = Her2Status(result.her2_status)
        percent = result.high_expression_percent
        interval = (
            f"{result.ci_low:.1f} – {result.ci_high:.1f} %"
            if result.ci_low is not None and result.ci_high is not None
            else ""
        )
        table.add_row(
            str(result.slide_id),
            result.file_name,
            Text(status.value, style=_STYLES[status]),
            "" if percent is None else f"{percent:.1f} %",
            interval,
            f"{result.tiles_tumor} of {result.tiles_total}",
            "; ".join(_remarks(result)),
        )
    return table


def _remarks(result: SlideResult) -> list[str]:
    remarks = []
    if result.borderline:
        remarks.append("borderline")
    if result.reason:
        remarks.append(result.reason)
    elif result.tiles_unreadable:
        remarks.append(f"{result.tiles_unreadable} tiles unreadable")
    return remarks
