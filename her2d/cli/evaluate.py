"""`her2d evaluate`: measure a study's models."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from her2d.cli.errors import UserError
from her2d.cli.extras import require_extra
from her2d.cli.options import JsonOption, StudyOption
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say
from her2d.pipeline.scoring import Her2Status

if TYPE_CHECKING:
    from her2d.research.evaluation.misdiagnosis import FeatureTest
    from her2d.research.evaluation.report import Report, SlideRow, ValidationRow
    from her2d.research.evaluation.rows import Interval

app = typer.Typer(help="Measure a study's models on its test sets.", invoke_without_command=True)


@app.callback()
def evaluate(
    context: typer.Context, study: StudyOption = Path("study"), as_json: JsonOption = False
) -> None:
    """Measure a study's models on its test sets.

    Measures the selected models, and writes report.html, report.json and report.pdf.
    """
    if context.invoked_subcommand is not None:
        return
    require_extra("train", "her2d evaluate")
    from her2d.research.evaluation.evaluate import PAGE_FILE, PDF_FILE, write_report_pdf
    from her2d.research.evaluation.evaluate import evaluate as evaluate_study
    from her2d.research.evaluation.pdf import PdfError
    from her2d.research.training.encoders import EncoderError
    from her2d.research.training.fit import FitError
    from her2d.research.training.folds import FoldsError
    from her2d.research.training.recipe import RecipeError, study_recipe
    from her2d.research.training.study import Study, StudyError

    folder = Study(study)
    console = Console(stderr=True)
    without_pdf = ""
    try:
        with console.status("evaluating") as status:
            report = evaluate_study(folder, study_recipe(study, None), progress=status.update)
            status.update("writing the PDF")
            try:
                write_report_pdf(folder)
            except PdfError as error:
                without_pdf = str(error)
    except (EncoderError, FitError, FoldsError, RecipeError, StudyError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The study cannot be evaluated: {error}.") from error
    if without_pdf:
        console.print(without_pdf)
    if as_json:
        say(report.model_dump_json(indent=2))
        return
    _print([*_slides_tables(report), *chain.from_iterable(map(_share_tables, report.validation))])
    say(f"\n{report.interval}")
    if report.rule_out is not None:
        say(report.rule_out.note)
    say(f"{folder.evaluation / PAGE_FILE}")
    if not without_pdf:
        say(f"{folder.evaluation / PDF_FILE}")


@app.command("pdf")
def pdf(study: StudyOption = Path("study")) -> None:
    """Write report.pdf again from the last report.html."""
    require_extra("train", "her2d evaluate pdf")
    from her2d.research.evaluation.evaluate import write_report_pdf
    from her2d.research.evaluation.pdf import PdfError
    from her2d.research.training.study import Study, StudyError

    try:
        say(f"{write_report_pdf(Study(study))}")
    except (PdfError, StudyError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The PDF cannot be written: {error}.") from error


@app.command("misdiagnosis")
def misdiagnosis(
    counts: Annotated[
        Path, typer.Option(help="CSV with columns table, feature, level, fn, tp, fp, tn.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Test which features are associated with wrong results.

    As in the paper's Tables 3 and 4. The CSV has a row for each level of a feature.
    """
    from her2d.research.evaluation.counts import CountsError, read_counts
    from her2d.research.evaluation.misdiagnosis import misdiagnosis_tests

    try:
        tests = misdiagnosis_tests(read_counts(counts))
    except CountsError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{counts}: {error}.") from error
    if as_json:
        say(json.dumps([asdict(test) for test in tests], indent=2))
        return
    by_table = groupby(tests, key=lambda test: test.table)
    _print([_tests_table(name, list(those)) for name, those in by_table])


def _print(listings: list[Listing]) -> None:
    for number, listing in enumerate(listings):
        if number:
            say()
        listing.print(Console())


def _slides_tables(report: "Report") -> Iterator[Listing]:
    """List what the integrators' calls are worth, in tables that fit into 80 columns."""
    models = f"{report.segmenter}, {report.classifier}"
    for first, second in (("accuracy", "AUROC"), ("sensitivity", "specificity")):
        measures = (first.lower(), second.lower())
        yield _by_integrator(
            f"{models}: {first} and {second} (95 % intervals)",
            [first, second],
            report.slides,
            partial(_measures, measures),
        )
    yield _by_integrator(
        "Slides with tumour; this accuracy counts indeterminate as wrong",
        ["TP", "FN", "FP", "TN", "indeterminate", "accuracy"],
        report.slides,
        lambda row: [
            *(str(getattr(row.confusion, name)) for name in ("tp", "fn", "fp", "tn")),
            str(row.indeterminate),
            "unknown" if row.accuracy_of_all is None else f"{row.accuracy_of_all:.3f}",
        ],
    )
    yield _by_integrator(
        "Slides without tumour, by call",
        ["positive", "negative", "indeterminate"],
        report.slides,
        lambda row: [str(getattr(row.without_tumor, status.value)) for status in Her2Status],
    )


def _measures(names: tuple[str, ...], row: "SlideRow") -> list[str]:
    return [_interval(getattr(row, name)) for name in names]


def _by_integrator(
    title: str,
    headings: list[str],
    rows: "Iterable[SlideRow]",
    cells: "Callable[[SlideRow], list[str]]",
) -> Listing:
    listing = Listing(
        Column("integrator", is_name=True),
        Column("set", is_name=True),
        *(Column(heading, right=True) for heading in headings),
        title=title,
    )
    for row in rows:
        name = f"{row.integrator} (chosen)" if row.selected else row.integrator
        listing.add(name, row.set, *cells(row))
    return listing


def _share_tables(row: "ValidationRow") -> Iterator[Listing]:
    """List how far P is from the annotated share, in tables that fit into 80 columns."""
    both = (("by tile", row.by_tile), ("by area", row.by_area))
    error = Listing(
        Column("P", is_name=True),
        Column("slides", right=True),
        Column("bias", right=True),
        Column("mean error", right=True),
        Column("limits of agreement", right=True),
        title=f"P minus the annotated share on {row.set}, in percentage points",
    )
    agreement = Listing(
        Column("P", is_name=True),
        Column("share in 95 % interval", right=True),
        Column("same status", right=True),
        title=f"Slides on {row.set} whose P agrees with the annotated share (95 % intervals)",
    )
    for name, found in both:
        limits = f"{_points(found.limits_low)} to {_points(found.limits_high)}"
        bias, mean = _points(found.bias), _points(found.mean_absolute_error)
        error.add(name, str(found.slides), bias, mean, limits)
        agreement.add(name, _interval(found.covered), _interval(found.same_status))
    yield from (error, agreement)


def _points(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _interval(figure: "Interval") -> str:
    return figure.text() or "unknown"


def _tests_table(name: str, tests: "list[FeatureTest]") -> Listing:
    listing = Listing(
        Column("feature", is_name=True),
        Column("level", is_name=True),
        Column("FN/TP", right=True),
        Column("P", right=True),
        Column("exact", drop=1, right=True),
        Column("FP/TN", right=True),
        Column("P", right=True),
        Column("exact", drop=1, right=True),
        title=f"{name}: P by chi-square, and by Fisher's exact test",
    )
    for test in tests:
        for number, level in enumerate(test.levels):
            first = number == 0
            listing.add(
                level.feature,
                level.level,
                f"{level.fn}/{level.tp}",
                test.positive.chi_square_text if first else "",
                test.positive.fisher_text if first else "",
                f"{level.fp}/{level.tn}",
                test.negative.chi_square_text if first else "",
                test.negative.fisher_text if first else "",
            )
    return listing
