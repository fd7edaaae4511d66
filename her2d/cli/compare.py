"""`her2d compare FIRST SECOND`: two bundles over the same slides."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.result_tables import percent_text, status_text
from her2d.db.connection import open_readonly
from her2d.pipeline.scoring import Her2Status
from her2d.results.comparison import Comparison, compare_bundles

BundleArgument = Annotated[
    str, typer.Argument(help="A bundle's name, 'name version', or the start of its digest.")
]


def compare(
    first: BundleArgument,
    second: BundleArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how often two bundles agree on the slides both have scored, and where they do not."""
    db = open_readonly(settings_of(config).results.database)
    comparison = compare_bundles(db, first, second)
    if as_json:
        typer.echo(json.dumps(_json(comparison), indent=2))
        return
    console = Console()
    if not comparison.slides:
        console.print(f"{comparison.first} and {comparison.second} have no slide in common.")
        return
    console.print(_agreement_table(comparison))
    console.print(_sentence(comparison))
    if comparison.disagreements:
        console.print(_disagreement_table(comparison))


def _sentence(comparison: Comparison) -> str:
    share = 100 * comparison.agreeing / comparison.slides
    text = f"They agree on {comparison.agreeing} of {comparison.slides} slides ({share:.1f} %)"
    if comparison.kappa is not None:
        text += f", Cohen's kappa {comparison.kappa:.3f}"
    if comparison.mean_difference is not None:
        text += f"; on average the second's percentage is {comparison.mean_difference:+.1f} points"
    return text + "."


def _agreement_table(comparison: Comparison) -> Table:
    table = Table(title=f"{comparison.first} (rows) and {comparison.second} (columns)")
    table.add_column("")
    for status in Her2Status:
        table.add_column(status.value, justify="right")
    for status in Her2Status:
        counts = (comparison.counts.get((status, other), 0) for other in Her2Status)
        table.add_row(status_text(status), *map(str, counts))
    return table


def _disagreement_table(comparison: Comparison) -> Table:
    table = Table(title="called differently")
    table.add_column("id", justify="right")
    table.add_column("slide", overflow="fold")
    table.add_column(str(comparison.first))
    table.add_column("")
    table.add_column(str(comparison.second))
    table.add_column("")
    for slide in comparison.disagreements:
        table.add_row(
            str(slide.slide_id),
            slide.file_name,
            status_text(slide.first_status),
            percent_text(slide.first_percent),
            status_text(slide.second_status),
            percent_text(slide.second_percent),
        )
    return table


def _json(comparison: Comparison) -> dict[str, object]:
    return {
        "first": asdict(comparison.first),
        "second": asdict(comparison.second),
        "slides": comparison.slides,
        "agreeing": comparison.agreeing,
        "kappa": comparison.kappa,
        "mean_difference": comparison.mean_difference,
        "counts": [
            {"first_status": first, "second_status": second, "slides": slides}
            for (first, second), slides in comparison.counts.items()
        ],
        "disagreements": [asdict(slide) for slide in comparison.disagreements],
    }
