"""Results as tables for the terminal, and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from her2d.pipeline.scoring import Her2Status
from her2d.results.history import PastRun, TileClassSummary
from her2d.results.records import SlideResult, StepTiming

STATUS_STYLES = {
    Her2Status.POSITIVE: "bold red",
    Her2Status.NEGATIVE: "green",
    Her2Status.INDETERMINATE: "yellow",
}


def result_table(found: Iterable[SlideResult]) -> Table:
    """One row for each result, as `results`, `scan` and `demo` print it.

    Without lines between columns, so that at a terminal's 80 most names stay whole.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("slide", overflow="fold")
    table.add_column("HER2", no_wrap=True)
    table.add_column("high expression", justify="right", min_width=len("expression"))
    table.add_column("95 % interval", justify="right", min_width=len("interval"))
    table.add_column("tumour tiles", justify="right", min_width=len("tumour"))
    table.add_column("remark", overflow="fold")
    for result in found:
        table.add_row(
            str(result.slide_id),
            result.file_name,
            status_text(result.her2_status),
            percent_text(result.high_expression_percent),
            _interval(result.ci_low, result.ci_high),
            f"{result.tiles_tumor} of {result.tiles_total}",
            "; ".join(_remarks(result)),
        )
    return table


def results_csv(found: Iterable[SlideResult]) -> str:
    """One line for each result, under the names of `slide_results`' columns."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(SlideResult.model_fields)
    for result in found:
        values = result.model_dump(mode="json")
        values["quality_flags"] = " ".join(values["quality_flags"] or ())
        table.writerow(values.values())
    return out.getvalue()


def slide_table(result: SlideResult) -> Table:
    """Every field of one result."""
    table = Table(title=result.file_name, show_header=False)
    for name, value in result.model_dump(mode="json").items():
        text = ", ".join(value) or "none" if isinstance(value, list) else str(value)
        table.add_row(name, "" if value is None else text)
    return table


def tile_table(tiles: Sequence[TileClassSummary], *, background: int) -> Table:
    """How a run's tiles are spread over their tile_classes."""
    table = Table(title="tiles")
    table.add_column("tile_class")
    table.add_column("tiles", justify="right")
    table.add_column("tumour pixels", justify="right")
    table.add_column("mean p(strong)", justify="right")
    for each in tiles:
        p = "" if each.mean_p_strong is None else f"{each.mean_p_strong:.3f}"
        name = each.tile_class.replace("_", "-")
        table.add_row(name, str(each.tiles), f"{each.tumor_pixels:,}", p)
    table.add_row("background", str(background), "", "")
    return table


def timing_table(timings: Sequence[StepTiming]) -> Table:
    """Where a run's time went."""
    table = Table(title="timings")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for timing in timings:
        table.add_row(timing.step, f"{timing.seconds:.2f}")
    return table


def run_table(runs: Sequence[PastRun]) -> Table:
    """A slide's runs, the current one first."""
    table = Table(title="runs")
    table.add_column("run", justify="right")
    table.add_column("finished (UTC)")
    table.add_column("bundle", overflow="fold")
    table.add_column("HER2")
    table.add_column("high expression", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("seconds", justify="right")
    for run in runs:
        table.add_row(
            str(run.run_id),
            run.finished_at[:19].replace("T", " "),
            run.bundle,
            status_text(run.her2_status),
            percent_text(run.high_expression_percent),
            _interval(run.ci_low, run.ci_high),
            f"{run.elapsed_s:.1f}",
        )
    return table


def status_text(status: str) -> Text:
    """A HER2 status in its colour."""
    return Text(status, style=STATUS_STYLES[Her2Status(status)])


def percent_text(percent: float | None) -> str:
    """A percentage with one decimal, or nothing."""
    return "" if percent is None else f"{percent:.1f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1f} – {high:.1f} %"


def _remarks(result: SlideResult) -> list[str]:
    remarks = []
    if result.borderline:
        remarks.append("borderline")
    if result.reason:
        remarks.append(result.reason)
    elif result.tiles_unreadable:
        remarks.append(f"{result.tiles_unreadable} tiles unreadable")
    remarks += [flag.value for flag in result.quality_flags or ()]
    return remarks
