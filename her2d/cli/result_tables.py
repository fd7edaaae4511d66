"""Results as listings and as CSV."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from her2d.cli.tables import Column, Listing, fields
from her2d.pipeline.scoring import Her2Status
from her2d.results.history import Act, PastRun, TileClassSummary
from her2d.results.records import QualityFlag, SlideResult, StepTiming
from her2d.slides.metadata import MagnificationSource
from her2d.system.clock import local_time, local_times

STATUS_STYLES = {
    Her2Status.POSITIVE: "bold red",
    Her2Status.NEGATIVE: "green",
    Her2Status.INDETERMINATE: "yellow",
}


_SENTENCES = frozenset(
    {"reason", "ci_meaning", "ihc_advice", "unreadable_reason", "unread_pictures"}
    | {"scale_remark", "quality_flags"}
)


def result_table(found: Iterable[SlideResult]) -> Listing:
    """List results, one a row, for `results`, `scan` and `demo`."""
    results = list(found)
    zone, finished = local_times([result.finished_at for result in results])
    listing = Listing(
        Column("id", right=True),
        Column("slide", is_name=True),
        Column("HER2"),
        Column("high expression", right=True),
        Column("95 % interval", drop=2, right=True),
        Column("tumour tiles", drop=1, right=True),
        Column(time_heading("finished", zone)),
        Column("barcode"),
        Column("remark", is_sentence=True),
    )
    for result, time in zip(results, finished, strict=True):
        listing.add(
            str(result.slide_id),
            result.file_name,
            status_text(result.her2_status),
            percent_text(result.high_expression_percent),
            _interval(result.ci_low, result.ci_high),
            f"{result.tiles_tumor} of {result.tiles_total}",
            time,
            result.barcode or "",
            _joined(_remarks(result)),
        )
    return listing


def slide_table(result: SlideResult) -> Listing:
    """List every field of one result."""
    rows = []
    for name, value in result.model_dump(mode="json").items():
        text = ", ".join(value) or "none" if isinstance(value, list) else str(value)
        if name.endswith("_at") and value is not None:
            text = local_time(text, seconds=True)
        rows.append((name, "" if value is None else text))
        if name == "ci_calibrated" and result.ci_meaning is not None:
            rows.append(("ci_meaning", result.ci_meaning))
        if name == "send_to_ihc" and result.ihc_advice is not None:
            rows.append(("ihc_advice", result.ihc_advice))
    return fields(rows, title=result.file_name, sentences=_SENTENCES)


def tile_table(tiles: Sequence[TileClassSummary], *, background: int) -> Listing:
    """List how many of a run's tiles are in each class."""
    listing = Listing(
        Column("class", is_name=True),
        Column("tiles", right=True),
        Column("tumour pixels", drop=1, right=True),
        Column("mean p(strong)", drop=2, right=True),
        title="Tiles",
    )
    for each in tiles:
        name, p = each.tile_class.replace("_", "-"), _probability(each.mean_p_strong)
        listing.add(name, str(each.tiles), f"{each.tumor_pixels:,}", p)
    listing.add("background", str(background), "", "")
    return listing


def timing_table(timings: Sequence[StepTiming]) -> Listing:
    """List the seconds that each step of a run took."""
    listing = Listing(Column("step", is_name=True), Column("seconds", right=True), title="Timings")
    for timing in timings:
        listing.add(timing.step, f"{timing.seconds:.2f}")
    return listing


def run_table(runs: Sequence[PastRun]) -> Listing:
    """List a slide's runs, the current one first."""
    zone, finished = local_times([run.finished_at for run in runs], seconds=True)
    has_probability = any(run.positive_probability is not None for run in runs)
    probability = [Column("probability", drop=4, right=True)] if has_probability else []
    listing = Listing(
        Column("run", is_name=True, right=True),
        Column(time_heading("finished", zone), drop=3),
        Column("bundle"),
        Column("HER2"),
        Column("high expression", drop=4, right=True),
        *probability,
        Column("95 % interval", drop=2, right=True),
        Column("seconds", drop=1, right=True),
        title="Runs",
    )
    for run, time in zip(runs, finished, strict=True):
        listing.add(
            str(run.run_id),
            time,
            run.bundle,
            status_text(run.her2_status),
            percent_text(run.high_expression_percent),
            *([_probability(run.positive_probability)] if has_probability else []),
            _interval(run.ci_low, run.ci_high),
            f"{run.elapsed_s:.1f}",
        )
    return listing


def act_table(acts: Sequence[Act]) -> Listing:
    """List what persons did, in the order of `acts`."""
    zone, times = local_times([act.at for act in acts], seconds=True)
    listing = Listing(
        Column(time_heading("time", zone)),
        Column("who", is_name=True),
        Column("act"),
        Column("job", drop=1, right=True),
        Column("file", is_name=True),
        Column("detail", is_sentence=True),
        title="Acts",
    )
    for act, time in zip(acts, times, strict=True):
        listing.add(
            time,
            act.actor,
            act.act,
            "" if act.job_id is None else str(act.job_id),
            act.file_name or "",
            act.detail or "",
        )
    return listing


def time_heading(name: str, zone: str) -> str:
    """Return the heading of a column of times: with their zone, if they have it in common."""
    return f"{name} ({zone})" if zone else name


def status_text(status: str) -> Text:
    """Return a HER2 status in its colour."""
    return Text(status, style=STATUS_STYLES[Her2Status(status)])


def percent_text(percent: float | None) -> str:
    """Return a percentage with one decimal, "" for None."""
    return "" if percent is None else f"{percent:.1f} %"


def _probability(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1f} – {high:.1f} %"


def _joined(remarks: Iterable[str]) -> str:
    """Join remarks to one cell: a sentence ends with its full stop, another remark without."""
    cell = ""
    for remark in remarks:
        between = " " if cell.endswith(".") else "; "
        cell = f"{cell}{between}{remark}" if cell else remark
    return cell


def _remarks(result: SlideResult) -> list[str]:
    remarks = []
    if result.positive_probability is not None:
        remarks.append(
            f"probability {result.positive_probability:.3f}, positive from"
            f" {result.probability_threshold:.3f}, no interval"
        )
    if result.borderline:
        remarks.append("borderline")
    if result.send_to_ihc:
        remarks.append("send to IHC")
    if result.outcome_text is not None:
        remarks.append(result.outcome_text)
    if result.reason:
        remarks.append(result.reason)
    elif result.tiles_unreadable:
        tiles = "1 tile" if result.tiles_unreadable == 1 else f"{result.tiles_unreadable} tiles"
        remarks.append(f"{tiles} unreadable ({result.unreadable_reason or 'reason not recorded'})")
    if result.focal_plane:
        remarks.append(f"focal plane {result.focal_plane}")
    if result.unread_pictures:
        remarks.append(result.unread_pictures)
    if result.barcode_remark:
        remarks.append(result.barcode_remark)
    if result.scale_remark is not None and result.scale_remark != result.reason:
        remarks.append(result.scale_remark)
    if result.magnification_source == MagnificationSource.ASSUMED:
        remarks.append(f"magnification {result.magnification:g}x assumed")
    explained = (QualityFlag.BARCODE_MISMATCH, QualityFlag.OFF_SCALE)
    remarks += [flag.value for flag in result.quality_flags if flag not in explained]
    return remarks
