"""`her2d compare FIRST SECOND`: compare two bundles on the same slides."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.cli.result_tables import percent_text, status_text
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly
from her2d.pipeline.scoring import Her2Status
from her2d.results.comparison import Comparison, compare_bundles
from her2d.system.text import readable_text

BundleArgument = Annotated[
    str, typer.Argument(help="A bundle's name, 'name version', or the start of its digest.")
]


def compare(
    first: BundleArgument,
    second: BundleArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two bundles on the slides that both have scored.

    Prints how often they agree, and the slides on which they do not.
    """
    db = open_readonly(settings_of(config).results.database)
    comparison = compare_bundles(db, readable_text(first), readable_text(second))
    if as_json:
        say(json.dumps(_json(comparison), indent=2))
        return
    if not comparison.slides:
        say(f"{comparison.first} and {comparison.second} have no slide in common.")
        return
    console = Console()
    _agreement_table(comparison).print(console)
    say(f"\n{_sentence(comparison)}")
    if comparison.disagreements:
        say()
        _disagreement_table(comparison).print(console)


def _sentence(comparison: Comparison) -> str:
    share = 100 * comparison.agreeing / comparison.slides
    text = f"They agree on {comparison.agreeing} of {comparison.slides} slides ({share:.1f} %)"
    if comparison.kappa is not None:
        text += f", Cohen's kappa {comparison.kappa:.3f}"
    if comparison.mean_difference is not None:
        text += f"; mean difference (second - first) {comparison.mean_difference:+.1f} points"
    return text + "."


def _agreement_table(comparison: Comparison) -> Listing:
    listing = Listing(
        Column("", is_name=True),
        *(Column(status.value, right=True) for status in Her2Status),
        title=f"Slides by status: {comparison.first} (rows) and {comparison.second} (columns)",
    )
    for status in Her2Status:
        counts = (comparison.counts.get((status, other), 0) for other in Her2Status)
        listing.add(status_text(status), *map(str, counts))
    return listing


def _disagreement_table(comparison: Comparison) -> Listing:
    listing = Listing(
        Column("id", drop=1, right=True),
        Column("slide", is_name=True),
        Column(str(comparison.first)),
        Column(str(comparison.second)),
        title="Slides with different statuses",
    )
    for slide in comparison.disagreements:
        listing.add(
            str(slide.slide_id),
            slide.file_name,
            _call(slide.first_status, slide.first_percent),
            _call(slide.second_status, slide.second_percent),
        )
    return listing


def _call(status: str, percent: float | None) -> Text:
    return Text(" ").join(filter(None, (status_text(status), Text(percent_text(percent)))))


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
