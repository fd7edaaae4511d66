"""`her2d results`, `show` and `heatmap`: read results, also while the daemon writes."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.cli.options import MOST_LISTED, ConfigOption, JsonOption, settings_of
from her2d.cli.output import file_to_write
from her2d.cli.periods import SINCE, UNTIL, first_moment, moment_after
from her2d.cli.result_tables import (
    act_table,
    result_table,
    run_table,
    slide_table,
    tile_table,
    timing_table,
)
from her2d.cli.slide import SlideArgument, heatmap_of, result_of
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly
from her2d.errors import Her2dError
from her2d.pipeline.evaluability import ReasonCode
from her2d.pipeline.scoring import Her2Status
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.results.export.results_csv import results_csv
from her2d.results.history import acts_on_slide, runs_of_slide, tile_summary, timings_of_run
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.records import QualityFlag
from her2d.results.stored_run import pruned_at, tiles_pruned
from her2d.system.text import readable_text


def results(
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="Slides on a page.")] = 50,
    page: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="Number of the page.")] = 1,
    status: Annotated[Her2Status | None, typer.Option(help="Only slides of this status.")] = None,
    reason: Annotated[
        ReasonCode | None,
        typer.Option(metavar="CODE", help="Only slides without a call for this reason."),
    ] = None,
    borderline: Annotated[
        bool | None,
        typer.Option(
            "--borderline/--not-borderline",
            help="Only slides whose 95 % interval includes the threshold, or only the others.",
        ),
    ] = None,
    send_to_ihc: Annotated[
        bool | None,
        typer.Option(
            "--send-to-ihc/--not-to-ihc",
            help="Only slides that the laboratory's calibration sends to IHC, or only those that it"
            " does not.",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(help=SINCE)] = None,
    until: Annotated[str | None, typer.Option(help=UNTIL)] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Only results of this bundle: its name, or 'name version'.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Part of the file name or barcode, in upper or lower case.")
    ] = None,
    flag: Annotated[
        list[QualityFlag] | None,
        typer.Option(metavar="FLAG", help="Only slides with this flag; repeatable."),
    ] = None,
    sort: Annotated[
        SortKey, typer.Option(help="Sort by this; margin is the distance from the threshold.")
    ] = SortKey.FINISHED,
    ascending: Annotated[
        bool | None,
        typer.Option("--asc/--desc", help="Default: newest, highest, A to Z or closest first."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """List the current result of each slide, newest first."""
    if as_json and as_csv:
        raise UserError("Give --json or --csv, not both.")
    wanted = ResultFilter(
        status=status,
        reason_code=reason,
        borderline=borderline,
        send_to_ihc=send_to_ihc,
        since=first_moment(since),
        until=moment_after(until),
        bundle=None if bundle is None else readable_text(bundle),
        text=None if text is None else readable_text(text),
        flags=frozenset(flag or ()),
    )
    rising = sort in (SortKey.NAME, SortKey.MARGIN) if ascending is None else ascending
    db = open_readonly(settings_of(config).results.database)
    found = list_results(
        db,
        wanted,
        order=Order(sort, descending=not rising),
        limit=limit,
        offset=(page - 1) * limit,
    )
    if as_json:
        say(json.dumps([result.model_dump(mode="json") for result in found], indent=2))
        return
    if as_csv:
        say(results_csv(found), nl=False)
        return
    matching = count_results(db, wanted)
    if found:
        result_table(found).print(Console())
    elif not matching:
        say("No slides match.")
    _print_more(db, len(found), matching, page, limit)


def _print_more(db: Database, shown: int, matching: int, page: int, limit: int) -> None:
    """Print how many slides are on other pages, and how many files have no result."""
    if matching > shown:
        pages = -(-matching // limit)
        say(f"{shown} of {matching} slides, page {page} of {pages} (--page).")
    refused = JobQueue(db).counts()[JobState.QUARANTINED]
    if refused:
        say(
            f"{refused} file{'s' if refused > 1 else ''} could not be processed. To list them:"
            " her2d queue ls --state quarantined"
        )


def show(slide: SlideArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print everything that is known about one slide.

    Its result, tiles, timings, runs, and what persons did to it.
    """
    db = open_readonly(settings_of(config).results.database)
    try:
        result = result_of(db, slide)
    except Her2dError as error:
        if as_json:
            say(json.dumps({"slide": slide, "error": str(error)}, indent=2))
        raise
    tiles = tile_summary(db, result.run_id)
    deleted_at = pruned_at(db, result.run_id)
    timings = timings_of_run(db, result.run_id)
    runs = runs_of_slide(db, result.slide_id)
    acts = acts_on_slide(db, result.slide_id)
    if as_json:
        everything = {
            **result.model_dump(mode="json"),
            "tiles": [asdict(tile_class) for tile_class in tiles],
            "tiles_pruned_at": deleted_at,
            "timings": [asdict(timing) for timing in timings],
            "runs": [asdict(run) for run in runs],
            "acts": [asdict(act) for act in acts],
        }
        say(json.dumps(everything, indent=2))
        return
    listings = [slide_table(result)]
    if deleted_at is None:
        background = result.tiles_total - sum(each.tiles for each in tiles)
        listings.append(tile_table(tiles, background=background))
    if timings:
        listings.append(timing_table(timings))
    listings.append(run_table(runs))
    if acts:
        listings.append(act_table(acts))
    for number, listing in enumerate(listings):
        if number:
            say()
        listing.print(Console())
    if deleted_at is not None:
        say(f"\n{tiles_pruned(result, deleted_at)}")


def heatmap(
    slide: SlideArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Copy the PNG here.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the path of a slide's heatmap, or copy the file."""
    db = open_readonly(settings_of(config).results.database)
    result = result_of(db, slide)
    path = heatmap_of(result)
    if output is None:
        say(path)
        return
    try:
        with file_to_write(output) as file:
            shutil.copyfile(path, file)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}.") from error
    say(str(output))
