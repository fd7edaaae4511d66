"""Write a benchmark's report as tables: medians on a terminal, ranges too in Markdown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tools.benchmark.report import Rate, Report, Row, Spread


@dataclass(frozen=True, slots=True)
class _Sheet:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Figures:
    """How figures are formatted."""

    number: Callable[[Spread], str]
    share: Callable[[Spread], str]

    def rate(self, rate: Rate) -> tuple[str, str]:
        """Format tiles per second and the share of the peak."""
        of_peak = "" if rate.of_peak is None else self.share(rate.of_peak)
        return self.number(rate.tiles_per_s), of_peak


_MEDIANS = _Figures(lambda s: f"{s.median:.3g}", lambda s: f"{s.median:.0%}")
_RANGES = _Figures(
    lambda s: f"{s.median:.3g} ({s.least:.3g} to {s.most:.3g})",
    lambda s: f"{s.median:.0%} ({s.least:.0%} to {s.most:.0%})",
)


def print_report(report: Report, console: Console) -> None:
    """Print the report as tables."""
    for line in _facts(report):
        console.print(line)
    for sheet in _sheets(report, _MEDIANS):
        table = Table(*sheet.head, title=sheet.title)
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def markdown_report(report: Report) -> str:
    """Return the report as Markdown under a second-level heading."""
    parts = [f"## python -m tools.benchmark, {report.bundle}", *_facts(report)]
    for sheet in _sheets(report, _RANGES):
        lines = (sheet.head, ("---",) * len(sheet.head), *sheet.rows)
        table = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
        parts.append(f"**{sheet.title}**\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _facts(report: Report) -> Iterator[str]:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield (
        f"{machine.processor}, {machine.cores} cores (load average {machine.load:.1f} before), GPU:"
        f" {machine.gpu or 'none'}; {versions}; her2d {report.software_version};"
        f" {report.measured_at}."
    )
    yield (
        f"Slide: {report.slide}; {report.tissue_tiles} tissue tiles, {report.tumor_tiles} of them"
        f" tumour. Median of {report.repeats} repeats (least to most). Engines take and return"
        " arrays; the pipeline reads the slide from disk, decoding included. Decoding alone:"
        f" {_RANGES.number(report.decoding.tiles_per_s)} tiles/s."
    )
    if report.flops is None:
        yield "No shares of the peak: onnx, which counts the arithmetic, is not installed."
    else:
        counts = ", ".join(f"{part} {n / 1e9:.3g} GFLOP" for part, n in report.flops.items())
        yield f"Arithmetic for one tile: {counts}."
    for peak in report.peaks:
        reached = (
            f"{peak.flops_per_s.median / 1e9:.4g} GFLOP/s"
            if peak.flops_per_s is not None
            else f"not measured. {peak.reason or 'No back end here runs on it.'}"
        )
        yield f"Peak on {peak.device}, a matrix product of {peak.product}: {reached}"


def _sheets(report: Report, figures: _Figures) -> Iterator[_Sheet]:
    yield _Sheet(
        "Tiles per second",
        (
            "back end",
            "batch",
            "segmenter",
            "of peak",
            "classifiers",
            "of peak",
            "pipeline",
            "of peak",
            "x first",
        ),
        tuple(
            (
                row.name,
                str(row.batch),
                *figures.rate(row.segmenter),
                *figures.rate(row.classifiers),
                *figures.rate(row.pipeline),
                figures.number(row.times_first),
            )
            for row in report.rows
        ),
    )
    yield _Sheet(
        "The pipeline over its run",
        ("back end", "batch", "engines' share", "bottleneck", "device busy", "stages busy"),
        tuple(
            (
                row.name,
                str(row.batch),
                figures.share(row.pipeline_of_engines),
                row.bottleneck,
                "unknown" if row.utilisation is None else f"{row.utilisation:.0%}",
                _stages(row),
            )
            for row in report.rows
        ),
    )
    if report.skipped:
        yield _Sheet(
            "Not measured",
            ("back end", "batch", "reason"),
            tuple(_skipped(report)),
        )


def _skipped(report: Report) -> Iterator[tuple[str, str, str]]:
    """Return rows of back end, batches and reason; batches with the same reason share a row."""
    batches: dict[tuple[str, str], list[str]] = {}
    for each in report.skipped:
        batches.setdefault((each.name, each.reason), []).append(str(each.batch))
    for (name, reason), found in batches.items():
        yield name, ", ".join(found), reason


def _stages(row: Row) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in row.stages.items())


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
