"""`her2d outcomes import|ls|template`: IHC and FISH results of slides."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlite_utils import Database

from her2d.cli.actor import actor
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.result_tables import percent_text, status_text
from her2d.cli.slide import result_of
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say, say_error
from her2d.db.connection import changing, open_readonly
from her2d.results.outcome_csv import COLUMNS, OutcomesError
from her2d.results.outcomes import (
    ResolvedOutcome,
    StoredOutcome,
    import_outcomes,
    list_outcomes,
    read_outcome_file,
)

app = typer.Typer(help="Import and list IHC and FISH results of slides.", no_args_is_help=True)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="CSV as `her2d outcomes template` prints it.")
    ],
    config: ConfigOption = None,
) -> None:
    """Import IHC and FISH results of slides from a CSV file.

    All rows are imported, or none if one of them cannot be used. A slide's outcome may be imported
    again: the newest counts, and the earlier ones are kept.
    """
    with changing(settings_of(config).results.database) as db:
        outcomes = outcomes_in(db, file)
        counts = import_outcomes(db, outcomes, source=file.name, actor=actor("outcomes import"))
    say(
        f"Imported outcomes of {counts.added + counts.replaced} slides: {counts.added} are new,"
        f" {counts.replaced} replace an earlier one. {counts.unchanged} were known already."
    )


@app.command("ls")
def ls(
    slide: Annotated[
        str | None, typer.Option(help="Only of this slide: its id, file name or barcode.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Also outcomes that were replaced.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the outcomes of slides, the newest first."""
    with closing(open_readonly(settings_of(config).results.database)) as db:
        slide_id = None if slide is None else result_of(db, slide).slide_id
        found = list_outcomes(db, slide_id=slide_id, history=history)
    if as_json:
        say(json.dumps([asdict(outcome) for outcome in found], indent=2))
        return
    if not found:
        say("No outcomes match. To import some: her2d outcomes import")
        return
    _table(found).print(Console())
    if equivocal := sum(o.is_current and o.her2_outcome == "equivocal" for o in found):
        say(
            f"{equivocal} of them {'is' if equivocal == 1 else 'are'} equivocal (IHC 2+ without"
            " FISH) and counted in no rate."
        )


@app.command("template")
def template() -> None:
    """Print a CSV with all columns and an example row."""
    say(",".join(COLUMNS))
    say("gastric-002.tif,2+,amplified,35,case-17,2026-03-01,Dr A. Li")


def outcomes_in(db: Database, file: Path) -> list[ResolvedOutcome]:
    """Read a CSV of outcomes; print a line for each row that cannot be used.

    Raises:
        UserError: the file or some of its rows cannot be used.
    """
    try:
        return read_outcome_file(db, file)
    except OutcomesError as error:
        for problem in error.problems:
            say_error(f"{file.name}, {problem}")
        raise UserError(str(error)) from error


def _table(found: list[StoredOutcome]) -> Listing:
    listing = Listing(
        Column("id", drop=6, right=True),
        Column("slide", is_name=True),
        Column("IHC"),
        Column("FISH", drop=5),
        Column("IHC percent", drop=3, right=True),
        Column("outcome"),
        Column("call", drop=7),
        Column("P", drop=4, right=True),
        Column("read on", drop=2),
        Column("read by", drop=1),
    )
    for each in found:
        listing.add(
            str(each.slide_id),
            each.file_name,
            each.ihc,
            each.fish or "",
            percent_text(each.ihc_percent),
            each.her2_outcome if each.is_current else f"{each.her2_outcome} (replaced)",
            status_text(each.her2_status),
            percent_text(each.high_expression_percent),
            each.read_on or "",
            each.read_by or "",
        )
    return listing
