"""Fill the TRIPOD+AI checklist (Collins et al. 2024, BMJ 385, e078378) from a study.

The checklist has 27 items in 52 parts. What they ask is given here in short; the statement's own
text decides. What a study's files cannot know, such as ethics and funding, is left to the authors,
and is not guessed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from her2d.method import FOLDS, SATURATION, TILE_PX, TUMOR_FRACTION, UM_PER_PX
from her2d.research.evaluation.columns import KnownColumn
from her2d.research.evaluation.participants import NOT_KNOWN, LevelRow
from her2d.research.evaluation.report import Report, TripodRow, TripodStatus
from her2d.research.training.recipe import Recipe

TO_BE_COMPLETED = "To be completed by the authors"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the answers are made from."""

    report: Report
    recipe: Recipe


Answer = Callable[[_Facts], str]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the checklist.

    Attributes:
        item, section, topic: Its number, and where it stands.
        asked: What is asked, in short.
        answer: What the study knows; None if it knows nothing.
        missing: What only the authors know; "" if the study answers the part.
    """

    item: str
    section: str
    topic: str
    asked: str
    answer: Answer | None = None
    missing: str = ""


def tripod_rows(report: Report, recipe: Recipe) -> tuple[TripodRow, ...]:
    """Fill the checklist.

    Args:
        report: The report, without the checklist.
        recipe: The study's recipe.
    """
    facts = _Facts(report, recipe)
    return tuple(_filled(part, facts) for part in _PARTS)


def _filled(part: _Part, facts: _Facts) -> TripodRow:
    known = "" if part.answer is None else part.answer(facts)
    if not known:
        status, text = TripodStatus.AUTHORS, f"{TO_BE_COMPLETED}."
    elif part.missing:
        status, text = TripodStatus.IN_PART, f"{known} {TO_BE_COMPLETED}: {part.missing}."
    else:
        status, text = TripodStatus.STUDY, known
    return TripodRow(
        item=part.item,
        section=part.section,
        topic=part.topic,
        asked=part.asked,
        answer=text,
        status=status,
    )


def _purpose(facts: _Facts) -> str:
    return (
        "Development and evaluation of a diagnostic model that predicts the HER2 status of gastric"
        " cancer from H&E slides."
    )


def _sources(facts: _Facts) -> str:
    return f"{facts.report.cohort}. Test and external slides were used for evaluation only."


def _centers(facts: _Facts) -> str:
    levels = _levels(facts, KnownColumn.CENTER)
    return f"Centres: {', '.join(levels)}." if levels else ""


def _preparation(facts: _Facts) -> str:
    return (
        f"Slides are cut into tiles of {TILE_PX} x {TILE_PX} pixels at {UM_PER_PX:g} um per pixel"
        f" (4x). Tiles with a mean saturation of at most {SATURATION:g} of 255 are background."
        f" Tumour tiles have more than {100 * TUMOR_FRACTION:g} % tumour. Slides that are out of"
        " focus, folded or under ink beyond the bundle's limits have no call. All slides are"
        " treated in the same way."
    )


def _outcome(facts: _Facts) -> str:
    return (
        "HER2 status: positive if IHC is 3+, or 2+ with positive FISH; otherwise negative"
        " (Figure S1). No time horizon applies."
    )


def _predictors(facts: _Facts) -> str:
    return (
        "The only predictors are the pixels of the H&E slide, of which networks learn what tells."
        " Clinical columns of the cohort table are not predictors."
    )


def _predictors_defined(facts: _Facts) -> str:
    return "Pixels of tumour tiles as scanned. The models do not see the IHC slide."


def _sample_size(facts: _Facts) -> str:
    return _numbers(facts)


def _missing_data(facts: _Facts) -> str:
    without = [row for row in facts.report.slides if row.selected]
    unknown = sorted({row.feature for row in _level_rows(facts) if row.level == NOT_KNOWN})
    calls = "; ".join(f"{row.set}: {row.indeterminate}" for row in without)
    text = (
        f"Slides with tumour that the model could not call ({calls or 'none'}) are counted as wrong"
        " in one accuracy of Table S4 and left out of the other metrics."
    )
    if unknown:
        text += f" Values are missing in: {', '.join(unknown)}; such slides are not in a subgroup."
    return text


def _analysis(facts: _Facts) -> str:
    report = facts.report
    return (
        f"Splits: {', '.join(each.set for each in report.sets)} (Figure 1). Networks are trained in"
        f" {FOLDS} folds that are stratified by HER2 status and grouped by"
        f" {facts.recipe.grouping.value}; the integrator is fitted on"
        f" {report.integrator_fitted_on}. A patient is in one split only."
    )


def _handled(facts: _Facts) -> str:
    return (
        f"Pixels are scaled to a mean of {_three(facts.recipe.mean)} and a standard deviation of"
        f" {_three(facts.recipe.std)} of each channel, and augmented by rotation, mirroring and"
        " masking."
    )


def _model(facts: _Facts) -> str:
    report, recipe = facts.report, facts.recipe
    by_user = ", ".join(report.overridden)
    overridden = f" Selected by the user: {by_user}." if by_user else ""
    return (
        f"{report.segmenter}, five {report.classifier} and {report.integrator} (Figure 2), selected"
        f" on validation slides among {_count(report.segmenters, 'segmenter')},"
        f" {_count(report.classifiers, 'classifier')} and"
        f" {_count(report.integrators, 'integrator')} (Tables S1 to S3).{overridden} The"
        f" integrator's parameters are chosen by grid search in"
        f" {recipe.integrator.folds} folds of patients. Seed {recipe.seed}."
    )


def _clusters(facts: _Facts) -> str:
    by = dict.fromkeys(row.by for row in facts.report.subgroups)
    text = "Intervals take the slides of a patient as a cluster."
    return f"{text} Performance is given by {', '.join(by)}." if by else text


def _measures(facts: _Facts) -> str:
    return (
        "Discrimination: AUROC, sensitivity, specificity and accuracy of slides and patients."
        " Calibration: of p(strong) of tiles, bias and limits of agreement of P, coverage of its"
        " interval. Clinical utility: saved IHC tests and decision curves."
    )


def _updating(facts: _Facts) -> str:
    return "The models were not updated after the evaluation."


def _calculated(facts: _Facts) -> str:
    return (
        f"By the bundle {facts.report.bundle_digest[:12]} in the pipeline of her2d"
        f" {facts.report.code_version}, as in service."
    )


def _imbalance(facts: _Facts) -> str:
    recipe = facts.recipe
    sampling = {"as_is": "as they are", "balanced": "both classes equally often"}
    weight = {"none": "no weights", "balanced": "weights that balance strong and weak tiles"}
    return (
        f"Tiles are sampled {sampling[recipe.segmenter.sampling]} for segmenters and"
        f" {sampling[recipe.classifier.sampling]} for classifiers; the integrator is fitted with"
        f" {weight[recipe.integrator.class_weight]}. The tile cut is chosen on predictions for"
        " slides that the models did not learn from, so that P is not biased."
    )


def _fairness(facts: _Facts) -> str:
    sensitive = [row for row in facts.report.subgroups if row.by in ("sex", "age", "centre")]
    if not sensitive:
        return ""
    by = ", ".join(dict.fromkeys(row.by for row in sensitive))
    return f"Performance is given by {by}. No model was adjusted to these groups."


def _output(facts: _Facts) -> str:
    threshold = _threshold(facts)
    return (
        "P, the share of tumour in tiles of high expression, with an interval, and a status"
        + (f": positive from {threshold:g} % on, the threshold of IHC." if threshold else ".")
        + f" {facts.report.least_tumor}"
    )


def _differences(facts: _Facts) -> str:
    return "Characteristics of the splits are in Tables 1 and 2."


def _code(facts: _Facts) -> str:
    return f"her2d {facts.report.code_version}, Apache 2.0."


def _flow(facts: _Facts) -> str:
    return f"Figure 1. {_numbers(facts)}"


def _characteristics(facts: _Facts) -> str:
    return f"Tables 1 and 2, with missing values as '{NOT_KNOWN}'."


def _compared(facts: _Facts) -> str:
    return "Tables 1 and 2 have the training, test and external slides side by side."


def _numbers(facts: _Facts) -> str:
    return " ".join(
        f"{each.set}: {each.slides} slides of {each.patients} patients, {each.positive} positive."
        for each in facts.report.sets
    )


def _specification(facts: _Facts) -> str:
    return (
        "The whole model is the study's bundle: ONNX networks, an integrator and a manifest with"
        " all rules and digests. Table S5 names the methods."
    )


def _performance(facts: _Facts) -> str:
    figures = "; ".join(
        f"{row.set}: accuracy {row.accuracy.value:.3f} ({row.accuracy.low:.3f} to"
        f" {row.accuracy.high:.3f})"
        for row in facts.report.slides
        if row.selected and row.accuracy.value is not None
    )
    return f"Table S4, patients and subgroups. {figures}." if figures else ""


def _heterogeneity(facts: _Facts) -> str:
    centers = [row for row in facts.report.subgroups if row.by == "centre"]
    return "Subgroups by centre." if len(centers) > 1 else ""


def _no_updating(facts: _Facts) -> str:
    return "Not done."


def _limitations(facts: _Facts) -> str:
    small = sum(row.is_small for row in facts.report.subgroups)
    return f"{small} of {len(facts.report.subgroups)} subgroups are small." if small else ""


def _input_quality(facts: _Facts) -> str:
    return (
        "Slides that cannot be read, are out of focus, folded or inked, or have too little tumour"
        " have no call, with the reason, and are to be tested by IHC."
    )


def _interaction(facts: _Facts) -> str:
    return (
        "None: slides are read unattended. Borderline slides and slides without a call are marked"
        " to be sent to IHC, which needs a pathologist."
    )


_TITLE, _INTRODUCTION, _METHODS = "Title and abstract", "Introduction", "Methods"
_OPEN, _PUBLIC = "Open science", "Patient and public involvement"
_RESULTS, _DISCUSSION = "Results", "Discussion"

_PARTS = (
    _Part(
        "1",
        _TITLE,
        "Title",
        "name the study as developing or evaluating a prediction model, its population and outcome",
        _purpose,
        "the title",
    ),
    _Part("2", _TITLE, "Abstract", "see TRIPOD+AI for abstracts"),
    _Part("3a", _INTRODUCTION, "Background", "context, rationale and existing models"),
    _Part(
        "3b",
        _INTRODUCTION,
        "Background",
        "target population, intended purpose in the care pathway, intended users",
    ),
    _Part("3c", _INTRODUCTION, "Background", "known inequalities between groups of people"),
    _Part(
        "4",
        _INTRODUCTION,
        "Objectives",
        "objectives, and whether a model is developed, evaluated or both",
        _purpose,
        "the hypotheses",
    ),
    _Part(
        "5a",
        _METHODS,
        "Data",
        "sources of data for development and evaluation, why, how representative",
        _sources,
        "how patients were found, and whom they represent",
    ),
    _Part("5b", _METHODS, "Data", "dates of accrual"),
    _Part(
        "6a",
        _METHODS,
        "Participants",
        "setting, number and location of centres",
        _centers,
        "setting and location",
    ),
    _Part("6b", _METHODS, "Participants", "eligibility criteria"),
    _Part("6c", _METHODS, "Participants", "treatments received, and how they were handled"),
    _Part(
        "7",
        _METHODS,
        "Data preparation",
        "preprocessing and quality checks, and whether they are alike in all groups",
        _preparation,
    ),
    _Part(
        "8a",
        _METHODS,
        "Outcome",
        "definition, time horizon, how and when assessed, why this outcome",
        _outcome,
        "assays, and whether centres assessed alike",
    ),
    _Part("8b", _METHODS, "Outcome", "qualifications of the assessors"),
    _Part("8c", _METHODS, "Outcome", "blinding of the assessment"),
    _Part("9a", _METHODS, "Predictors", "choice of initial predictors", _predictors),
    _Part(
        "9b",
        _METHODS,
        "Predictors",
        "definition of all predictors, how and when measured",
        _predictors_defined,
        "scanners, stains and when slides were scanned",
    ),
    _Part("9c", _METHODS, "Predictors", "qualifications of those who annotated tumour"),
    _Part(
        "10",
        _METHODS,
        "Sample size",
        "how the size was arrived at, and why it is enough",
        _sample_size,
        "how the size was arrived at",
    ),
    _Part(
        "11",
        _METHODS,
        "Missing data",
        "how missing data were handled, and why data were left out",
        _missing_data,
        "slides that were left out before the cohort table",
    ),
    _Part("12a", _METHODS, "Analysis", "how data were used and partitioned", _analysis),
    _Part("12b", _METHODS, "Analysis", "how predictors were handled", _handled),
    _Part(
        "12c",
        _METHODS,
        "Analysis",
        "type of model, rationale, building steps, tuning, internal validation",
        _model,
    ),
    _Part("12d", _METHODS, "Analysis", "heterogeneity across clusters", _clusters),
    _Part("12e", _METHODS, "Analysis", "measures and plots of performance", _measures),
    _Part("12f", _METHODS, "Analysis", "updating that follows from the evaluation", _updating),
    _Part("12g", _METHODS, "Analysis", "how predictions were calculated", _calculated),
    _Part("13", _METHODS, "Class imbalance", "methods, why, and recalibration", _imbalance),
    _Part(
        "14",
        _METHODS,
        "Fairness",
        "approaches to fairness and their rationale",
        _fairness,
        "the rationale",
    ),
    _Part(
        "15",
        _METHODS,
        "Model output",
        "the output, classes, and how thresholds were found",
        _output,
    ),
    _Part(
        "16",
        _METHODS,
        "Training and evaluation",
        "differences in setting, eligibility, outcome and predictors",
        _differences,
        "differences in setting and eligibility",
    ),
    _Part("17", _METHODS, "Ethical approval", "committee, and consent or waiver"),
    _Part("18a", _OPEN, "Funding", "source and role of funders"),
    _Part("18b", _OPEN, "Conflicts of interest", "of all authors"),
    _Part("18c", _OPEN, "Protocol", "where it is, or that there is none"),
    _Part("18d", _OPEN, "Registration", "register and number, or that there is none"),
    _Part("18e", _OPEN, "Data sharing", "availability of the data"),
    _Part(
        "18f",
        _OPEN,
        "Code sharing",
        "availability of the code",
        _code,
        "where the study's own code and the bundle are",
    ),
    _Part("19", _PUBLIC, _PUBLIC, "any involvement, or that there was none"),
    _Part(
        "20a",
        _RESULTS,
        "Participants",
        "flow of participants, with and without the outcome",
        _flow,
        "patients that were left out before the cohort table",
    ),
    _Part(
        "20b",
        _RESULTS,
        "Participants",
        "characteristics by data source, with dates and missing data",
        _characteristics,
        "dates and treatments",
    ),
    _Part(
        "20c",
        _RESULTS,
        "Participants",
        "comparison of evaluation with development data",
        _compared,
    ),
    _Part(
        "21",
        _RESULTS,
        "Model development",
        "participants and outcome events in each analysis",
        _numbers,
    ),
    _Part(
        "22",
        _RESULTS,
        "Model specification",
        "details that allow predictions by others, with restrictions",
        _specification,
        "restrictions of access",
    ),
    _Part(
        "23a",
        _RESULTS,
        "Model performance",
        "estimates with intervals, in subgroups too",
        _performance,
    ),
    _Part("23b", _RESULTS, "Model performance", "heterogeneity across clusters", _heterogeneity),
    _Part("24", _RESULTS, "Model updating", "results of any updating", _no_updating),
    _Part("25", _DISCUSSION, "Interpretation", "main results, fairness, earlier studies"),
    _Part(
        "26",
        _DISCUSSION,
        "Limitations",
        "limitations and their effects",
        _limitations,
        "the discussion",
    ),
    _Part(
        "27a",
        _DISCUSSION,
        "Usability",
        "how poor or missing input is to be handled",
        _input_quality,
    ),
    _Part(
        "27b",
        _DISCUSSION,
        "Usability",
        "interaction and expertise that users need",
        _interaction,
    ),
    _Part("27c", _DISCUSSION, "Usability", "next steps for research"),
)


def _levels(facts: _Facts, column: KnownColumn) -> list[str]:
    return [
        row.level
        for row in _level_rows(facts)
        if row.feature.lower() in column.value and row.level != NOT_KNOWN
    ]


def _level_rows(facts: _Facts) -> Iterator[LevelRow]:
    for table in (facts.report.table_1, facts.report.table_2):
        if table is not None:
            yield from table.levels


def _threshold(facts: _Facts) -> float | None:
    return next((row.threshold_percent for row in facts.report.validation), None)


def _count(models: Sequence[object], kind: str) -> str:
    return f"{len(models)} {kind}{'' if len(models) == 1 else 's'}"


def _three(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
