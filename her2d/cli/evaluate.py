"""`her2d evaluate`: how good the models are, and where they fail."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.cli.errors import UserError
from her2d.cli.options import JsonOption, StudyOption

if TYPE_CHECKING:
    from her2d.research.evaluation.misdiagnosis import FeatureTest
    from her2d.research.evaluation.report import Interval, Report

app = typer.Typer(
    help="How good a study's models are, and where they fail.", invoke_without_command=True
)


@app.callback()
def evaluate(
    context: typer.Context, study: StudyOption = Path("study"), as_json: JsonOption = False
) -> None:
    """Measure a study's chosen models on its test sets; writes report.html and report.json."""
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
        typer.echo(report.model_dump_json(indent=2))
        return
    Console(markup=False).print(_slides_table(report))
    typer.echo(f"{folder.evaluation / PAGE_FILE}")


@app.command("misdiagnosis")
def misdiagnosis(
    counts: Annotated[
        Path, typer.Option(help="CSV of table, feature, level, fn, tp, fp, tn; one row a level.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Test which features go with wrong calls, as in the paper's Tables 3 and 4."""
    from her2d.research.evaluation.counts import CountsError, read_counts
    from her2d.research.evaluation.misdiagnosis import misdiagnosis_tests

    try:
        tests = misdiagnosis_tests(read_counts(counts))
    except CountsError as error:
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"{counts}: {error}.") from error
    if as_json:
        typer.echo(json.dumps([asdict(test) for test in tests], indent=2))
        return
    Console(markup=False).print(_tests_table(tests))


def _slides_table(report: "Report") -> Table:
    table = Table("integrator", "set", title=f"{report.segmenter}, {report.classifier}")
    for heading in ("accuracy", "sensitivity", "specificity", "AUROC", "TP", "FN", "FP", "TN"):
        table.add_column(heading, justify="right")
    table.add_column("no call", justify="right")
    table.add_column("accuracy, no call wrong", justify="right")
    table.add_column("no tumour: pos/neg/no call", justify="right")
    for row in report.slides:
        counts, benign = row.confusion, row.without_tumor
        table.add_row(
            f"{row.integrator} (selected)" if row.selected else row.integrator,
            row.set,
            *(_interval(f) for f in (row.accuracy, row.sensitivity, row.specificity, row.auroc)),
            *(str(count) for count in (counts.tp, counts.fn, counts.fp, counts.tn)),
            str(row.indeterminate),
            "unknown" if row.accuracy_of_all is None else f"{row.accuracy_of_all:.3f}",
            f"{benign.positive}/{benign.negative}/{benign.indeterminate}",
        )
    return table


def _interval(figure: "Interval") -> str:
    if figure.value is None:
        return "unknown"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} – {figure.high:.3f})"


def _tests_table(tests: "list[FeatureTest]") -> Table:
    table = Table("table", "feature", "level")
    for heading in ("FN", "TP", "P", "Fisher's P", "FP", "TN", "P", "Fisher's P"):
        table.add_column(heading, justify="right")
    for test in tests:
        for number, level in enumerate(test.levels):
            first = number == 0
            table.add_row(
                level.table if first else "",
                level.feature if first else "",
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
    return table
