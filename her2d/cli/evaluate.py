"""`her2d evaluate`: measure a study's models."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from her2d.cli.errors import UserError
from her2d.cli.options import JsonOption, StudyOption
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say

if TYPE_CHECKING:
    from her2d.research.evaluation.misdiagnosis import FeatureTest
    from her2d.research.evaluation.report import Report, ValidationRow
    from her2d.research.evaluation.rows import Interval

app = typer.Typer(help="Measure a study's models on its test sets.", invoke_without_command=True)


@app.callback()
def evaluate(
    context: typer.Context, study: StudyOption = Path("study"), as_json: JsonOption = False
) -> None:
    """Measure a study's models on its test sets.

    Measures the selected models, and writes report.html and report.json.
    """
    if context.invoked_subcommand is not None:
        return
    from her2d.research.evaluation.evaluate import PAGE_FILE
    from her2d.research.evaluation.evaluate import evaluate as evaluate_study
    from her2d.research.training.fit import FitError
    from her2d.research.training.recipe import RecipeError, study_recipe
    from her2d.research.training.study import Study, StudyError

    folder = Study(study)
    console = Console(stderr=True)
    try:
        with console.status("evaluating") as status:
            report = evaluate_study(folder, study_recipe(study, None), progress=status.update)
    except (FitError, RecipeError, StudyError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The study cannot be evaluated: {error}.") from error
    if as_json:
        say(report.model_dump_json(indent=2))
        return
    _slides_table(report).print(Console())
    for row in report.validation:
        _validation_table(row).print(Console())
    say(report.interval)
    say(f"{folder.evaluation / PAGE_FILE}")


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
    _tests_table(tests).print(Console())


def _slides_table(report: "Report") -> Listing:
    listing = Listing(
        Column("integrator", is_name=True),
        Column("set"),
        Column("accuracy", right=True),
        Column("sensitivity", drop=9, right=True),
        Column("specificity", drop=8, right=True),
        Column("AUROC", drop=10, right=True),
        *(Column(heading, drop=4, right=True) for heading in ("TP", "FN", "FP", "TN")),
        Column("indeterminate", drop=3, right=True),
        Column("accuracy, indeterminate as wrong", drop=2, right=True),
        Column("no tumour: positive/negative/indeterminate", drop=1, right=True),
        title=f"{report.segmenter}, {report.classifier}",
    )
    for row in report.slides:
        counts, benign = row.confusion, row.without_tumor
        listing.add(
            f"{row.integrator} (selected)" if row.selected else row.integrator,
            row.set,
            *(_interval(f) for f in (row.accuracy, row.sensitivity, row.specificity, row.auroc)),
            *(str(count) for count in (counts.tp, counts.fn, counts.fp, counts.tn)),
            str(row.indeterminate),
            "unknown" if row.accuracy_of_all is None else f"{row.accuracy_of_all:.3f}",
            f"{benign.positive}/{benign.negative}/{benign.indeterminate}",
        )
    return listing


def _validation_table(row: "ValidationRow") -> Listing:
    listing = Listing(
        Column("P compared with the annotated share", is_name=True),
        Column("slides", right=True),
        Column("bias", right=True),
        Column("mean error", drop=2, right=True),
        Column("limits of agreement", drop=1, right=True),
        Column("in the 95 % interval", right=True),
        Column("same status", drop=3, right=True),
        title=f"P on {row.set}, in percentage points",
    )
    for name, found in (("by tile", row.by_tile), ("by area", row.by_area)):
        listing.add(
            name,
            str(found.slides),
            _points(found.bias),
            _points(found.mean_absolute_error),
            f"{_points(found.limits_low)} to {_points(found.limits_high)}",
            _interval(found.covered),
            _interval(found.same_status),
        )
    return listing


def _points(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _interval(figure: "Interval") -> str:
    if figure.value is None:
        return "unknown"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} – {figure.high:.3f})"


def _tests_table(tests: "list[FeatureTest]") -> Listing:
    listing = Listing(
        Column("table", is_name=True),
        Column("feature", is_name=True),
        Column("level", is_name=True),
        Column("FN", drop=3, right=True),
        Column("TP", drop=3, right=True),
        Column("P positives", drop=4, right=True),
        Column("Fisher's P positives", drop=2, right=True),
        Column("FP", drop=3, right=True),
        Column("TN", drop=3, right=True),
        Column("P negatives", drop=4, right=True),
        Column("Fisher's P negatives", drop=2, right=True),
    )
    for test in tests:
        for number, level in enumerate(test.levels):
            first = number == 0
            listing.add(
                level.table,
                level.feature,
                level.level,
                str(level.fn),
                str(level.tp),
                test.positive.chi_square_text if first else "",
                test.positive.fisher_text if first else "",
                str(level.fp),
                str(level.tn),
                test.negative.chi_square_text if first else "",
                test.negative.fisher_text if first else "",
            )
    return listing
