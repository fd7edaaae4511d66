"""Fill the TRIPOD+AI checklist (`tripod_items`) from a study.

Each part says what the study reports and where, or what is not reported and why. What a study's
files cannot know, such as ethics and funding, is left to the authors, and is not guessed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from her2d.method import FOLDS, SATURATION, TILE_PX, TUMOR_FRACTION, UM_PER_PX
from her2d.research.evaluation.columns import MOST_GROUPS, KnownColumn
from her2d.research.evaluation.participants import NOT_KNOWN, CharacteristicsTable, SetCounts
from her2d.research.evaluation.report import Report, SlideRow, TripodRow, TripodStatus
from her2d.research.evaluation.tripod_items import CHECKLIST, ChecklistPart
from her2d.research.training.cohort import Split
from her2d.research.training.folds import Grouping
from her2d.research.training.recipe import Recipe

TO_BE_COMPLETED = "To be completed by the authors"


class Reason(StrEnum):
    """Why something is not reported."""

    NOT_IN_FILES = "Not in the study's files"
    NOT_IN_TABLE = "Not in the cohort table"
    NOT_COMPUTED = "Not computed by her2d"
    JUDGEMENT = "A matter of the authors' judgement"


@dataclass(frozen=True, slots=True)
class _Gap:
    """Something that is not reported, and why."""

    what: str
    why: Reason = Reason.NOT_IN_FILES


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a study answers to one part of the checklist.

    Attributes:
        reported: What it reports, with the tables and figures; "" if nothing.
        gaps: What it does not report.
    """

    reported: str
    gaps: tuple[_Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the answers are made from."""

    report: Report
    recipe: Recipe


def tripod_rows(report: Report, recipe: Recipe) -> tuple[TripodRow, ...]:
    """Fill the checklist.

    Args:
        report: The report, without the checklist.
        recipe: The recipe that the selected models were trained by.
    """
    facts = _Facts(report, recipe)
    return tuple(_filled(part, facts) for part in CHECKLIST)


def _filled(part: ChecklistPart, facts: _Facts) -> TripodRow:
    answer = _ANSWERS[part.item]
    reply = answer(facts) if callable(answer) else _Reply("", (answer,))
    sentences = [reply.reported, *(f"{gap.why}: {gap.what}." for gap in reply.gaps)]
    if not reply.gaps:
        status = TripodStatus.STUDY
    else:
        status = TripodStatus.IN_PART if reply.reported else TripodStatus.AUTHORS
        sentences.append(f"{TO_BE_COMPLETED}.")
    return TripodRow(
        item=part.item,
        section=part.section,
        topic=part.topic,
        applies=part.applies.value,
        asked=part.asked,
        answer=" ".join(filter(None, sentences)),
        status=status,
    )


_TESTED = (Split.TEST, Split.EXTERNAL)
_KINDS = ("segmenter", "classifier", "integrator")

_PURPOSE = (
    "Development and evaluation of a diagnostic model that predicts the HER2 status of gastric"
    " cancer from H&E slides."
)


def _title(_: _Facts) -> _Reply:
    return _Reply(_PURPOSE, (_Gap("the title"),))


def _background(_: _Facts) -> _Reply:
    return _Reply(
        "Diagnostic. The method is HER2Net (Liao et al. 2025, 10.1002/advs.202408451); Table S5"
        " cites the models that it is made of.",
        (_Gap("the clinical context, why the model is needed, and other existing models"),),
    )


def _purpose(facts: _Facts) -> _Reply:
    rule_out = facts.report.rule_out
    chosen = rule_out is not None and rule_out.threshold_percent is not None
    saved = " What P saves as a test before IHC is under 'Use before IHC'." if chosen else ""
    return _Reply(
        f"For research use only.{saved}",
        (_Gap("target population, place in the care pathway, and intended users"),),
    )


def _objectives(_: _Facts) -> _Reply:
    return _Reply(_PURPOSE, (_Gap("the objectives beyond that"),))


def _sources(facts: _Facts) -> _Reply:
    return _Reply(
        f"{facts.report.cohort}. Test and external slides were used for evaluation only.",
        (
            _Gap(
                "the kind of source, why it was used and how representative it is, for development"
                " and for evaluation"
            ),
        ),
    )


def _setting(facts: _Facts) -> _Reply:
    centers = _listed(facts, KnownColumn.CENTER)
    if not centers:
        return _Reply(
            "",
            (
                _Gap("the setting, and the location of the centres"),
                _Gap(f"a column of centres with at most {MOST_GROUPS} values", Reason.NOT_IN_TABLE),
            ),
        )
    return _Reply(
        f"{_count(len(centers), 'centre')} (Table 1): {', '.join(centers)}.",
        (_Gap("the setting, and the location of the centres"),),
    )


def _preparation(_: _Facts) -> _Reply:
    return _Reply(
        f"Slides are cut into tiles of {TILE_PX} x {TILE_PX} pixels at {UM_PER_PX:g} um per pixel"
        f" (4x). Tiles with a mean saturation of at most {SATURATION:g} of 255 are background."
        f" Tumour tiles have more than {100 * TUMOR_FRACTION:g} % tumour. In the evaluation, slides"
        " that are out of focus, folded or under ink beyond the bundle's limits have no call,"
        " and such pixels of other slides do not count; in training no slide is left"
        " out as a whole. All slides are treated alike, because her2d does not see to which group a"
        " patient belongs."
    )


def _outcome(_: _Facts) -> _Reply:
    return _Reply(
        "HER2 status: positive if IHC is 3+, or 2+ with positive FISH, and otherwise negative"
        " (Figure S1). Tissue without tumour has no status. The rule is the same for all slides."
        " No time horizon applies to a diagnosis.",
        (
            _Gap(
                "why this outcome, the assays, when they were done, and whether groups of patients"
                " were tested alike"
            ),
        ),
    )


def _initial_predictors(_: _Facts) -> _Reply:
    return _Reply(
        "The predictors are all pixels of the H&E slide. None was selected beforehand: networks"
        " learn from which pixels to predict. No column of the cohort table is a predictor."
    )


def _predictors(facts: _Facts) -> _Reply:
    scanners = _listed(facts, KnownColumn.SCANNER)
    by = f" Scanners (Table 1): {', '.join(scanners)}." if scanners else ""
    unknown = "stains, and when slides were scanned"
    return _Reply(
        "Red, green and blue of each pixel of tissue, as scanned. In the evaluation the models see"
        f" neither IHC nor FISH, nor any column of the cohort table.{by}",
        (_Gap(unknown if scanners else f"scanners, {unknown}"),),
    )


def _assessors(_: _Facts) -> _Reply:
    return _Reply(
        "No person's judgement decides a predictor: a scanner measures the pixels.",
        (
            _Gap(
                "qualifications and demographics of those who drew the annotations that networks"
                " learned from"
            ),
        ),
    )


def _sample_size(_: _Facts) -> _Reply:
    return _Reply(
        "The size itself is in 20a.",
        (
            _Gap(
                "how the size was arrived at, for development and for evaluation, and why it is"
                " enough"
            ),
        ),
    )


def _missing_data(facts: _Facts) -> _Reply:
    report = facts.report
    calls = "; ".join(f"{row.set}: {row.indeterminate}" for row in _own(facts)) or "none"
    saved = ", as tested in the IHC tests saved" if report.reflex else ""
    text = (
        f"Test slides with tumour and without a call ({calls}) count as wrong in one accuracy of"
        f" Table S4{saved}, and are left out of the other metrics of slides. Tiles that cannot be"
        " read are left out; if they could change the call, there is none. No value is imputed."
    )
    if any(each.without_tumor for each in report.sets if each.set in _TESTED):
        text += (
            " Test slides without tumour have no status, and are in the last columns of Table S4."
        )
    unknown = sorted(_features_with_gaps(facts))
    if unknown:
        text += (
            f" Values are missing in: {', '.join(unknown)}. Slides without a value are in no"
            " subgroup of that column."
        )
    return _Reply(text, (_Gap("slides that were left out before the cohort table, and why"),))


def _partition(facts: _Facts) -> _Reply:
    report = facts.report
    return _Reply(
        f"Splits: {', '.join(each.set for each in report.sets)} (Figure 1). Classifiers are trained"
        f" in {FOLDS} folds that are stratified by HER2 status and grouped by"
        f" {facts.recipe.grouping.value}, and segmenters on all but the first fold. The"
        f" integrator is fitted on {report.integrator_fitted_on}. A patient is in one split only.",
        (_Gap("the sample size that each use needs"),),
    )


def _handled(facts: _Facts) -> _Reply:
    recipe = facts.recipe
    of = {"segmenter": recipe.segmenter, "classifiers": recipe.classifier}
    jittered = [
        f"up to {100 * each.stain_jitter:g} % for the {name}"
        for name, each in of.items()
        if each.stain_jitter > 0
    ]
    cropped = [
        f"{each.crop} x {each.crop} pixels for the {name}"
        for name, each in of.items()
        if each.crop < TILE_PX
    ]
    steps = ["rotation, mirroring and masking of pixels"]
    steps += [f"changes of stain ({', '.join(jittered)})"] if jittered else []
    steps += [f"random crops ({', '.join(cropped)})"] if cropped else []
    return _Reply(
        "Pixels, from 0 to 1, are standardised in each channel by the means"
        f" {_three(recipe.mean)} and the standard deviations {_three(recipe.std)}. In training they"
        f" are augmented by {_and(steps)}. The integrator takes the five probabilities of"
        " a tile as they are."
    )


def _model(facts: _Facts) -> _Reply:
    report, recipe = facts.report, facts.recipe
    return _Reply(
        f"{report.segmenter}, five {report.classifier} and {report.integrator} (Figure 2), of"
        f" {_count(len(report.segmenters), 'segmenter')},"
        f" {_count(len(report.classifiers), 'classifier')} and"
        f" {_count(len(report.integrators), 'integrator')} (Tables S1 to S3). {_selected(report)}"
        " Networks are trained by Adam and stopped by the metric of the held-out fold; their"
        " settings are those of the recipe, without a search. The integrator's parameters, if it"
        f" has any, are chosen by grid search in {recipe.integrator.folds} folds of patients, or as"
        f" many as there are patients, and its tile cut on the same folds. Seed {recipe.seed}.",
        (_Gap("why these types of model", Reason.JUDGEMENT),),
    )


def _selected(report: Report) -> str:
    """Say by whom and on what the three models were selected."""
    by_rule = [kind for kind in _KINDS if kind not in report.overridden]
    sentences = []
    if by_rule:
        sentences.append(f"Selected on validation slides: {_and(by_rule)}.")
    if report.overridden:
        sentences.append(f"Selected by the user: {_and([*report.overridden])}.")
    return " ".join(sentences)


def _clusters(facts: _Facts) -> _Reply:
    text = "95 % intervals take the slides of a patient as a cluster, except those of coverage."
    by = _clusters_compared(facts)
    measures = _Gap(
        "a measure of the heterogeneity of performance, and that of parameters", Reason.NOT_COMPUTED
    )
    if not by:
        return _Reply(text, (_NO_CLUSTERS, measures))
    return _Reply(f"{text} Performance is given by {' and '.join(by)} (Subgroups).", (measures,))


def _measures(facts: _Facts) -> _Reply:
    report = facts.report
    found = [
        "Discrimination: AUROC, sensitivity, specificity and accuracy of slides (Table S4,"
        " Figure S2) and patients."
    ]
    if report.calibration:
        found.append(
            "Calibration of p(strong) of tiles: Brier score, expected calibration error and a plot."
        )
    if report.validation:
        found.append("P against the annotated share: bias, mean error and limits of agreement.")
    if report.coverage:
        found.append("Coverage of the interval of P.")
    if report.decision:
        found.append("Clinical utility: decision curves.")
    if report.reflex:
        found.append("IHC tests saved.")
    found.append("Models are compared in Tables S1 to S4.")
    return _Reply(" ".join(found), (_Gap("why these measures", Reason.JUDGEMENT),))


def _updating(facts: _Facts) -> _Reply:
    return _Reply(
        f"None: the bundle {facts.report.bundle_digest[:12]} is reported as it was evaluated. In"
        " this evaluation, its models and limits were fixed before test slides were read."
    )


def _calculated(facts: _Facts) -> _Reply:
    return _Reply(
        f"By the bundle {facts.report.bundle_digest[:12]} in the pipeline of her2d"
        f" {facts.report.code_version}, as in service."
    )


def _imbalance(facts: _Facts) -> _Reply:
    recipe = facts.recipe
    sampling = {"as_is": "as often as they occur", "balanced": "of both classes equally often"}
    weight = {"none": "no weights", "balanced": "weights that balance strong and weak tiles"}
    used = "balanced" in (
        recipe.segmenter.sampling,
        recipe.classifier.sampling,
        recipe.integrator.class_weight,
    )
    return _Reply(
        ("" if used else "No method was used. ")
        + f"The segmenter learns from tiles {sampling[recipe.segmenter.sampling]}, and classifiers"
        f" from tiles {sampling[recipe.classifier.sampling]}; the integrator is fitted with"
        f" {weight[recipe.integrator.class_weight]}. Its tile cut is chosen on predictions for"
        " patients that it did not learn from, so that P is not biased (Table S3).",
        (_Gap("why classes were balanced", Reason.JUDGEMENT),) if used else (),
    )


def _fairness(facts: _Facts) -> _Reply:
    compared = dict.fromkeys(row.by for row in facts.report.subgroups)
    by = [name for name in ("sex", "age") if name in compared]
    shown = f" Performance is given by {' and '.join(by)} (Subgroups)." if by else ""
    absent = [name for name in ("sex", "age") if name not in by]
    return _Reply(
        f"No model and no threshold was adjusted to a sociodemographic group.{shown}",
        (
            *(
                (_Gap(f"{' and '.join(absent)} of test slides", Reason.NOT_IN_TABLE),)
                if absent
                else ()
            ),
            _Gap("why no other approach", Reason.JUDGEMENT),
        ),
    )


def _output(facts: _Facts) -> _Reply:
    report = facts.report
    threshold = next((row.threshold_percent for row in report.validation), None)
    positive = (
        f": positive from {threshold:g} % on, as IHC counts tumour cells, and otherwise negative"
        if threshold is not None
        else ""
    )
    rule_out = f" {report.rule_out.note}" if report.rule_out is not None else ""
    return _Reply(
        "P, the share of tumour in tiles of high expression, with an interval, and a HER2 status"
        f"{positive}. A call is borderline if the interval holds the threshold, and a slide that"
        f" cannot be called is indeterminate. {report.least_tumor} {report.interval}{rule_out}"
    )


def _differences(facts: _Facts) -> _Reply:
    tables = _tables(facts)
    by = f" Characteristics of the datasets are in {_and(tables)}." if tables else ""
    return _Reply(
        "Outcome and predictors are defined alike for development and evaluation (8a, 9b)."
        f" Statuses by split are in Figure 1.{by}",
        (_Gap("differences in setting and eligibility"),),
    )


def _code(facts: _Facts) -> _Reply:
    return _Reply(
        f"her2d {facts.report.code_version}, Apache 2.0.",
        (_Gap("where code of the study beyond her2d is"),),
    )


def _flow(facts: _Facts) -> _Reply:
    return _Reply(
        f"Figure 1. {_numbers(facts)} A diagnosis has no follow-up.",
        (_Gap("patients that were left out before the cohort table"),),
    )


def _characteristics(facts: _Facts) -> _Reply:
    tables = _tables(facts)
    absent = _absent_demographics(facts)
    gaps = (
        *((_Gap(_and(absent), Reason.NOT_IN_TABLE),) if absent else ()),
        _Gap("dates and treatments"),
        _Gap("differences of characteristics between demographic groups", Reason.NOT_COMPUTED),
    )
    shown = f"{_and(tables)}, by dataset, with missing values as '{NOT_KNOWN}'. " if tables else ""
    return _Reply(f"{shown}Sizes and outcome are in 20a.", gaps)


def _compared(facts: _Facts) -> _Reply:
    report = facts.report
    text = ["Outcome by split: Figure 1."]
    if report.table_2 is not None and (report.table_2.levels or report.table_2.means):
        text.append(f"Morphology: Table 2 has {_and([*report.table_2.slides])} slides.")
    gaps = [_Gap("the distribution of the predictors, which are pixels", Reason.NOT_COMPUTED)]
    absent = _absent_demographics(facts)
    if absent:
        gaps.append(_Gap(_and(absent), Reason.NOT_IN_TABLE))
    if report.table_1 is not None and len(absent) < len(_DEMOGRAPHICS):
        text.append(f"Demographics: Table 1 has {_and([*report.table_1.slides])} slides.")
        # Table 1 is the paper's: internal slides are those of training and of the test set.
        gaps.append(
            _Gap(
                "demographics of training slides beside those of the split test",
                Reason.NOT_COMPUTED,
            )
        )
    return _Reply(" ".join(text), tuple(gaps))


def _analyses(facts: _Facts) -> _Reply:
    sets = {each.set: each for each in facts.report.sets}
    kept_apart = Split.INTEGRATOR.value in sets
    uses = {
        Split.TRAIN: "networks" if kept_apart else "networks and integrator",
        Split.INTEGRATOR: "integrator and limits",
        Split.TEST: "evaluation",
        Split.EXTERNAL: "evaluation",
    }
    numbers = [
        f"{use.capitalize()} ({sets[split.value].set}): {_number_of(sets[split.value])}."
        for split, use in uses.items()
        if split.value in sets
    ]
    called = [f"{row.confusion.total} of {row.set}" for row in _own(facts)]
    with_call = f" Table S4 is of slides with a call: {', '.join(called)}." if called else ""
    return _Reply(" ".join(numbers) + with_call)


def _specification(facts: _Facts) -> _Reply:
    return _Reply(
        f"The whole model is the study's bundle {facts.report.bundle_digest[:12]}: ONNX networks,"
        " an integrator, and a manifest with all rules and digests. Figure 2 shows it, and Table"
        " S5 names the methods.",
        (_Gap("where the bundle can be had, and restrictions of access or reuse"),),
    )


def _performance(facts: _Facts) -> _Reply:
    figures = [
        f"{row.set}: {_and(metrics)}" for row in _own(facts) if (metrics := [*_known_metrics(row)])
    ]
    if not figures:
        return _Reply("", (_Gap("a test slide with a call and a HER2 status"),))
    by = dict.fromkeys(row.by for row in facts.report.subgroups)
    subgroups = f" Subgroups by {', '.join(by)}." if by else ""
    return _Reply(
        f"Table S4 and Figure S2, and patients.{subgroups} {'; '.join(figures)}, with 95 %"
        " intervals."
    )


def _heterogeneity(facts: _Facts) -> _Reply:
    by = _clusters_compared(facts)
    if not by:
        return _Reply("", (_NO_CLUSTERS,))
    return _Reply(f"Performance by {' and '.join(by)} is under Subgroups.")


def _no_updating(_: _Facts) -> _Reply:
    return _Reply("None, because no model was updated (12f).")


def _limitations(facts: _Facts) -> _Reply:
    report = facts.report
    found = []
    small = sum(row.is_small for row in report.subgroups)
    if small:
        found.append(f"{small} of {len(report.subgroups)} subgroups are small.")
    if all(each.set != Split.EXTERNAL for each in report.sets):
        found.append("No slide is of the split external.")
    if facts.recipe.grouping is Grouping.SLIDE:
        found.append("Slides of a patient may be on both sides of a fold.")
    if report.overridden:
        found.append(f"The user selected: {', '.join(report.overridden)}.")
    return _Reply(
        " ".join(found),
        (_Gap("limitations of the study, and their effects", Reason.JUDGEMENT),),
    )


def _input_quality(_: _Facts) -> _Reply:
    return _Reply(
        "A slide has no call, with the reason, if it cannot be read, is not H&E, has a doubtful"
        " scale, is out of focus, folded or inked beyond the bundle's limits, or has too little"
        " tumour. IHC is to decide then."
    )


def _interaction(_: _Facts) -> _Reply:
    return _Reply(
        "Users scan slides and read results; nobody prepares a slide's picture or chooses regions."
        " Each result says whether its call is borderline, or why there is none.",
        (_Gap("the expertise that users need", Reason.JUDGEMENT),),
    )


Answer = Callable[[_Facts], _Reply] | _Gap

_NO_CLUSTERS = _Gap("two centres or two scanners of test slides", Reason.NOT_IN_TABLE)

_ANSWERS: Mapping[str, Answer] = {
    "1": _title,
    "2": _Gap("the abstract"),
    "3a": _background,
    "3b": _purpose,
    "3c": _Gap("known health inequalities between sociodemographic groups"),
    "4": _objectives,
    "5a": _sources,
    "5b": _Gap("start and end of accrual"),
    "6a": _setting,
    "6b": _Gap("eligibility criteria"),
    "6c": _Gap("which treatments patients had, and how the analysis deals with them"),
    "7": _preparation,
    "8a": _outcome,
    "8b": _Gap("qualifications and demographics of those who read IHC and FISH"),
    "8c": _Gap("how IHC and FISH were read blind, or that they were not"),
    "9a": _initial_predictors,
    "9b": _predictors,
    "9c": _assessors,
    "10": _sample_size,
    "11": _missing_data,
    "12a": _partition,
    "12b": _handled,
    "12c": _model,
    "12d": _clusters,
    "12e": _measures,
    "12f": _updating,
    "12g": _calculated,
    "13": _imbalance,
    "14": _fairness,
    "15": _output,
    "16": _differences,
    "17": _Gap("the ethics committee, and informed consent or its waiver"),
    "18a": _Gap("source of funding, and the funders' role"),
    "18b": _Gap("interests of the authors that may conflict"),
    "18c": _Gap("where the protocol is, or that there is none"),
    "18d": _Gap("register and number, or that the study is not registered"),
    "18e": _Gap("availability of the study's data"),
    "18f": _code,
    "19": _Gap("involvement of patients and the public, or that there was none"),
    "20a": _flow,
    "20b": _characteristics,
    "20c": _compared,
    "21": _analyses,
    "22": _specification,
    "23a": _performance,
    "23b": _heterogeneity,
    "24": _no_updating,
    "25": _Gap("what the results mean, fairness included", Reason.JUDGEMENT),
    "26": _limitations,
    "27a": _input_quality,
    "27b": _interaction,
    "27c": _Gap("next steps of research", Reason.JUDGEMENT),
}


def _numbers(facts: _Facts) -> str:
    return " ".join(f"{each.set}: {_number_of(each)}." for each in facts.report.sets)


def _number_of(found: SetCounts) -> str:
    without = f", {found.without_tumor} without tumour" if found.without_tumor else ""
    return (
        f"{_count(found.slides, 'slide')} of {_count(found.patients, 'patient')},"
        f" {found.positive} positive, {found.negative} negative{without}"
    )


def _own(facts: _Facts) -> list[SlideRow]:
    """Return the bundle's rows of Table S4."""
    return [row for row in facts.report.slides if row.selected]


def _known_metrics(row: SlideRow) -> Iterator[str]:
    metrics = {
        "accuracy": row.accuracy,
        "sensitivity": row.sensitivity,
        "specificity": row.specificity,
        "AUROC": row.auroc,
    }
    for name, found in metrics.items():
        if found.value is not None:
            yield f"{name} {found.text(3)}"


def _clusters_compared(facts: _Facts) -> list[str]:
    """Return what divides the test slides into clusters, of which there are two or more."""
    return [
        by
        for by in ("centre", "scanner")
        if len({row.level for row in facts.report.subgroups if row.by == by}) > 1
    ]


def _listed(facts: _Facts, column: KnownColumn) -> list[str]:
    """Return the values of a column that Table 1 lists."""
    table = facts.report.table_1
    return [
        row.level
        for row in (table.levels if table is not None else ())
        if column.is_named(row.feature) and row.level != NOT_KNOWN
    ]


_DEMOGRAPHICS = {"age": KnownColumn.AGE, "sex": KnownColumn.SEX}


def _absent_demographics(facts: _Facts) -> list[str]:
    """Return which of age and sex Table 1 does not have."""
    table = facts.report.table_1
    means = [row.feature for row in table.means] if table is not None else []
    return [
        name
        for name, column in _DEMOGRAPHICS.items()
        if not _listed(facts, column) and not any(map(column.is_named, means))
    ]


def _tables(facts: _Facts) -> list[str]:
    """Return which of Tables 1 and 2 show anything."""
    tables = {"Table 1": facts.report.table_1, "Table 2": facts.report.table_2}
    return [
        name
        for name, table in tables.items()
        if table is not None and (table.levels or table.means)
    ]


def _features_with_gaps(facts: _Facts) -> set[str]:
    """Return the columns of Tables 1 and 2 in which a slide has no value."""
    tables = (facts.report.table_1, facts.report.table_2)
    return {name for table in tables if table is not None for name in _incomplete(table)}


def _incomplete(table: CharacteristicsTable) -> Iterator[str]:
    yield from (row.feature for row in table.levels if row.level == NOT_KNOWN)
    for row in table.means:
        if any(row.groups[name].slides < slides for name, slides in table.slides.items()):
            yield row.feature


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _three(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _and(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
