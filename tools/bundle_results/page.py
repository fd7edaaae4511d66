"""The page, from an evaluation's report and the paper's figures."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

from her2d.bundle.manifest import Training
from her2d.research.demo_bundle import Sizes
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.figures import agreement_figure
from her2d.research.evaluation.report import Report, SlideRow
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.slide_predictions import validated_slides
from her2d.research.training.cohort import Split, Status
from her2d.simulator.paper_cohort import (
    GLANDULAR_NEGATIVES,
    GLANDULAR_SHARE,
    POORLY_COHESIVE_POSITIVES,
)
from tools.bundle_results.paper import (
    EXTERNAL,
    FOLD_AUROC,
    IN_A_REPORT,
    INTERNAL,
    TABLE_1,
    TABLE_2,
    TRAINING_SLIDES,
    PaperSet,
    misdiagnosis,
    misprints,
)
from tools.docs.markdown import table

_TEXT = Path(__file__).with_name("page.md.template")
_SETS = ((Split.TEST, "internal", INTERNAL), (Split.EXTERNAL, "external", EXTERNAL))
_HEADS = ("", *chain.from_iterable((f"paper, {n}", f"simulated, {n}") for _, n, _ in _SETS))
_NONE = "-"
_SMALL_P = 0.05


def page(report: Report, training: Training) -> str:
    """Return the page in Markdown.

    Args:
        report: The study's report.
        training: How the bundle of that study was made, from its manifest.

    Raises:
        ValueError: the report lacks one of the two test sets, Table 1 or 2, or the share of
            positive slides that the interval is for.
    """
    rows = {split: _row_of(report, split) for split, _, _ in _SETS}
    if report.table_1 is None or report.table_2 is None:
        raise ValueError("the report has no Table 1 or no Table 2")
    calls = [
        p for p in report.predictions if Status.INDETERMINATE not in (p.true_status, p.predicted)
    ]
    wrong = [p for p in calls if p.predicted != p.true_status]
    certain = {
        status: [p for p in calls if p.predicted == status and not p.borderline]
        for status in (Status.NEGATIVE, Status.POSITIVE)
    }
    return _TEXT.read_text().format(
        provenance=_provenance(training),
        version=report.code_version,
        participants=_participants(report),
        networks=_networks(report),
        slides=_slides(rows),
        compared_models=_compared_models(report),
        selected=_method(report, report.integrator).lower(),
        classifiers=_classifiers(report),
        coverage=_coverage(report),
        covered=_covered(report, Split.EXTERNAL),
        characteristics=_characteristics(report),
        morphology=_morphology(report),
        table_3=_misdiagnosis(report, rows[Split.TEST], INTERNAL),
        table_4=_misdiagnosis(report, rows[Split.EXTERNAL], EXTERNAL),
        after_holm=_after_holm(report),
        misprints=" ".join(
            f"{each.feature} is in {each.by_table_2} slides of the test set by the paper's"
            f" Table 2, and in {each.by_table} by its {each.table}."
            for each in misprints()
        ),
        agreement=_agreement(report),
        width=Fraction(Sizes().classifier_width),
        largest_bias=_largest_bias(report),
        lowest_band=_lowest_band(report),
        training_slides=next(e.slides for e in report.sets if e.set == Split.TRAIN),
        paper_training_slides=TRAINING_SLIDES,
        glandular=_percent(GLANDULAR_NEGATIVES),
        glandular_from=_percent(GLANDULAR_SHARE[0]),
        glandular_to=_percent(GLANDULAR_SHARE[1]),
        poorly_cohesive=_percent(POORLY_COHESIVE_POSITIVES),
        borderline=sum(p.borderline for p in calls),
        calls=len(calls),
        wrong=len(wrong),
        wrong_and_borderline=sum(p.borderline for p in wrong),
        certain_negative=len(certain[Status.NEGATIVE]),
        wrong_negative=len(set(certain[Status.NEGATIVE]) & set(wrong)),
        certain_positive=len(certain[Status.POSITIVE]),
        wrong_positive=len(set(certain[Status.POSITIVE]) & set(wrong)),
        prevalence=_percent(_prevalence(report)),
        standardized=_standardized(report),
        predictive_value=_paper_predictive_value(report),
        interval=report.interval,
        least_tumor=report.least_tumor,
        rule_out=_rule_out(report),
        paper_accuracies=_paper_accuracies(),
    )


def figure(report: Report) -> str:
    """Return P against the annotated share in the external centre as SVG text.

    Raises:
        ValueError: no slide's annotated share is known there.
    """
    slides = validated_slides([p for p in report.predictions if p.set == Split.EXTERNAL])
    (row,) = (row for row in report.validation if row.set == Split.EXTERNAL)
    drawn = agreement_figure(slides, slides.by_area, row.threshold_percent, "external centre")
    if drawn is None:
        raise ValueError("the report has no annotated share of an external slide")
    return drawn


def _row_of(report: Report, split: Split) -> SlideRow:
    row = report.bundle_row(split)
    if row is None:
        raise ValueError(f"the report has no results of the set {split}")
    return row


def _rows(name: str, cell: Callable[[Split, PaperSet], tuple[str, str]]) -> tuple[str, ...]:
    return (name, *chain.from_iterable(cell(split, paper) for split, _, paper in _SETS))


def _participants(report: Report) -> str:
    sets = {each.set: each for each in report.sets}
    return table(
        _HEADS,
        [
            _rows("slides", lambda s, p: (str(p.slides), str(sets[s].slides))),
            _rows("patients", lambda s, p: (str(p.patients), str(sets[s].patients))),
            _rows(
                "HER2-positive",
                lambda s, p: (
                    _part(p.positive, p.slides),
                    _part(sets[s].positive, sets[s].slides),
                ),
            ),
            _rows("without tumour", lambda s, _: ("0", str(sets[s].without_tumor))),
        ],
    )


def _networks(report: Report) -> str:
    (segmenter,) = (row for row in report.segmenters if row.selected)
    (classifier,) = (row for row in report.classifiers if row.selected)
    (integrator,) = (row for row in report.integrators if row.selected)
    folds = ("mean tile AUROC of the five held-out folds (S2)", _number(FOLD_AUROC))
    return table(
        _HEADS,
        [
            _rows(
                "MIoU of the segmenter (S1)",
                lambda s, p: (_number(p.miou), _number(segmenter.sets[s])),
            ),
            (*folds, _number(classifier.mean_auroc), _NONE, _NONE),
            _rows(
                "tile AUROC of the integrator (S3)",
                lambda s, p: (_number(p.tile_auroc), _number(integrator.sets[s].auroc)),
            ),
            _rows(
                "tile sensitivity of the integrator (S3)",
                lambda s, p: (_number(p.tile_sensitivity), _number(integrator.sets[s].sensitivity)),
            ),
        ],
    )


def _slides(rows: Mapping[Split, SlideRow]) -> str:
    def called_without_tumor(split: Split) -> str:
        found = rows[split].without_tumor
        called = found.positive + found.negative
        return f"{called} of {called + found.indeterminate}"

    def metric(name: str) -> tuple[str, ...]:
        return _rows(
            f"{name} (S4)",
            lambda s, p: (_number(getattr(p.confusion, name)), _interval(getattr(rows[s], name))),
        )

    return table(
        _HEADS,
        [
            _rows(
                "TP, FN, FP, TN (S2)",
                lambda s, p: (_counts(p.confusion), _counts(rows[s].confusion)),
            ),
            *(metric(name) for name in ("accuracy", "sensitivity", "specificity")),
            _rows("slide AUROC", lambda s, _: (_NONE, _interval(rows[s].auroc))),
            _rows("with tumour, not called", lambda s, _: ("by hand", str(rows[s].indeterminate))),
            _rows("without tumour, called", lambda s, _: (_NONE, called_without_tumor(s))),
        ],
    )


def _compared_models(report: Report) -> str:
    """Tables S3 and S4 of what was trained beside the bundle's, which comes first."""
    tiles = {row.name: row.sets for row in report.integrators}
    slides = {(row.integrator, row.set): row for row in report.slides}
    names = dict.fromkeys(row.integrator for row in report.slides)
    selected = next(row.integrator for row in report.slides if row.selected)

    def row(name: str) -> tuple[str, ...]:
        method = _method(report, name)
        cells = [f"{method} (the bundle's)" if name == selected else method]
        for split, _, _ in _SETS:
            found = slides[name, split]
            cells += [
                _number(tiles[name][split].auroc) if name in tiles else _NONE,
                _interval(found.accuracy),
                _interval(found.auroc),
            ]
        return tuple(cells)

    measures = ("tile AUROC (S3)", "slide accuracy (S4)", "slide AUROC")
    heads = (f"{measure}, {name}" for _, name, _ in _SETS for measure in measures)
    return table(("", *heads), map(row, sorted(names, key=lambda name: name != selected)))


def _classifiers(report: Report) -> str:
    """The rows of Table S2 as a sentence's middle."""
    return " and ".join(
        f"{_number(row.mean_auroc)} for {_method(report, row.name)}"
        for row in sorted(report.classifiers, key=lambda row: not row.selected)
    )


def _method(report: Report, name: str) -> str:
    """A model's name in the literature (Table S5)."""
    return next(row.method or name for row in report.references if row.name == name)


def _coverage(report: Report) -> str:
    return table(
        ("centre", "annotated share", "slides", "in their interval", "share of them"),
        [
            (name, row.band, str(row.slides), str(row.covered), _interval(row.share))
            for split, name, _ in _SETS
            for row in report.coverage
            if row.set == split
        ],
    )


def _standardized(report: Report) -> str:
    """The coverage where fewer slides are positive, as a sentence's middle."""
    rows = {row.set: row.standardized for row in report.coverage if row.standardized is not None}
    return " and ".join(f"{_interval(rows[split])} ({name})" for split, name, _ in _SETS)


def _prevalence(report: Report) -> float:
    """The share of positive slides that the interval is for."""
    shares = {row.prevalence for row in report.coverage if row.prevalence is not None}
    if len(shares) != 1:
        raise ValueError("the report's interval is not for one share of positive slides")
    return shares.pop()


def _paper_predictive_value(report: Report) -> str:
    """The positive predictive value by the paper's sensitivity and specificity."""
    share = _prevalence(report)
    found = (
        share
        * paper.confusion.sensitivity
        / (share * paper.confusion.sensitivity + (1 - share) * (1 - paper.confusion.specificity))
        for _, _, paper in _SETS
    )
    return " or ".join(f"{100 * value:.0f} %" for value in found)


def _rule_out(report: Report) -> str:
    """How the rule-out threshold was chosen, and what it saves."""
    rule, rows = report.rule_out, {row.set: row for row in report.reflex}
    if rule is None:
        return ""
    if rule.threshold_percent is None:
        return rule.note
    how = f"{rule.note[0].lower()}{rule.note[1:]}"
    sentences = [f"The rule-out threshold is P of {rule.threshold_percent:.1f} %, {how}"]
    for split, name, _ in _SETS:
        row = rows[split]
        sentence = (
            f"Under it {row.not_tested} of {row.slides} {name} slides would not be tested by IHC,"
            f" {row.missed} of them positive"
        )
        there = row.standardized
        if there is not None and rule.prevalence is not None:
            sentence += (
                f"; where {_percent(rule.prevalence)} are positive, that saves"
                f" {_interval(there.saved)} of the tests with a negative predictive value of"
                f" {_interval(there.npv)}"
            )
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _covered(report: Report, split: Split) -> str:
    (row,) = (row for row in report.coverage if (row.set, row.band) == (split, "all"))
    return f"{row.covered} of {row.slides}"


def _characteristics(report: Report) -> str:
    """Table 1, with the rows that both have."""
    found = report.table_1
    assert found is not None  # page() has asked
    slides = {(row.feature, row.level): row.slides for row in found.levels}
    ages = next(row.groups for row in found.means if row.feature == "age")

    def row(name: str, of: Callable[[str], tuple[str, str]]) -> tuple[str, ...]:
        return (name, *chain.from_iterable(map(of, TABLE_1)))

    def level(name: str, key: tuple[str, str]) -> tuple[str, ...]:
        return row(
            name,
            lambda d: (
                _part(TABLE_1[d].levels[key], TABLE_1[d].slides),
                _part(slides[key][d], found.slides[d]),
            ),
        )

    return table(
        _HEADS,
        [
            row("slides", lambda d: (str(TABLE_1[d].slides), str(found.slides[d]))),
            row("patients", lambda d: (str(TABLE_1[d].patients), str(found.patients[d]))),
            level("HER2-positive", ("HER2 status", "positive")),
            level("HER2-negative", ("HER2 status", "negative")),
            row("age in years", lambda d: (TABLE_1[d].age.text, ages[d].text)),
            level("male", ("sex", "male")),
            level("poorly differentiated", ("differentiation", "poor")),
        ],
    )


def _morphology(report: Report) -> str:
    """Table 2."""
    found = report.table_2
    assert found is not None  # page() has asked
    slides = {(row.feature, row.level): row.slides for row in found.levels}
    rows = []
    for name in TABLE_2["training"].present:
        feature, _, level = IN_A_REPORT[name]
        cells = (
            (
                _part(paper.present[name], paper.slides),
                _part(slides[feature, level][data], found.slides[data]),
            )
            for data, paper in TABLE_2.items()
        )
        rows.append((name.lower(), *chain.from_iterable(cells)))
    heads = chain.from_iterable((f"paper, {data}", f"simulated, {data}") for data in TABLE_2)
    return table(("slides with", *heads), rows)


def _misdiagnosis(report: Report, row: SlideRow, paper: PaperSet) -> str:
    """Table 3 or 4: both studies by the paper's chi-square test, the simulated one by Fisher's."""
    simulated = {test.feature: test for test in report.misdiagnosis if test.table == row.set}
    rows = []
    for printed in misdiagnosis():
        if printed.table != paper.counts:
            continue
        feature, in_paper, in_report = IN_A_REPORT[printed.feature]
        if feature not in simulated:
            continue
        theirs = next(each for each in printed.levels if each.level == in_paper)
        test = simulated[feature]
        ours = next(each for each in test.levels if each.level == in_report)
        name = in_report if printed.feature == "Gender" else printed.feature.lower()
        rows.append(
            (
                name,
                f"{theirs.fn} and {theirs.tp}",
                printed.positive.chi_square_text,
                f"{ours.fn} and {ours.tp}",
                test.positive.chi_square_text,
                test.positive.fisher_text,
                f"{theirs.fp} and {theirs.tn}",
                printed.negative.chi_square_text,
                f"{ours.fp} and {ours.tn}",
                test.negative.chi_square_text,
                test.negative.fisher_text,
            )
        )
    theirs_all, ours_all = paper.confusion, row.confusion
    heads = (
        "slides with",
        f"paper: FN ({theirs_all.fn}) and TP ({theirs_all.tp})",
        "P",
        f"simulated: FN ({ours_all.fn}) and TP ({ours_all.tp})",
        "P",
        "Fisher's P",
        f"paper: FP ({theirs_all.fp}) and TN ({theirs_all.tn})",
        "P",
        f"simulated: FP ({ours_all.fp}) and TN ({ours_all.tn})",
        "P",
        "Fisher's P",
    )
    return table(heads, rows)


def _after_holm(report: Report) -> str:
    """How many of the comparisons are left when P is adjusted for their number."""
    before: list[str] = []
    after: list[str] = []
    for split, name, _ in _SETS:
        for test in report.misdiagnosis:
            if test.table != split:
                continue
            for group in ("positive", "negative"):
                p = getattr(test, group).fisher
                label = f"{test.feature.replace('_', ' ')} ({name}, {group} slides)"
                adjusted = report.holm_of(split, test.feature, group)
                before += [label] if p is not None and p < _SMALL_P else []
                after += [label] if adjusted is not None and adjusted < _SMALL_P else []
    return (
        f"In the simulated sets Fisher's P is under {_SMALL_P:g} for {_listed(before)}; adjusted"
        f" for the number of features by Holm's method, for {_listed(after)}."
    )


def _agreement(report: Report) -> str:
    rows = {row.set: row for row in report.validation}

    def points(value: float | None) -> str:
        return _NONE if value is None else f"{value:.1f}"

    return table(
        ("centre", "slides", "mean of P less the share", "mean distance", "limits of agreement"),
        [
            (
                name,
                str(found.slides),
                points(found.bias),
                points(found.mean_absolute_error),
                f"{points(found.limits_low)} to {points(found.limits_high)}",
            )
            for split, name, _ in _SETS
            for found in (rows[split].by_area,)
        ],
    )


def _largest_bias(report: Report) -> str:
    biases = [row.by_area.bias for row in report.validation]
    return f"{max(abs(bias) for bias in biases if bias is not None):.1f}"


def _lowest_band(report: Report) -> str:
    row, share = min(
        ((row, row.share.value) for row in report.coverage if row.share.value is not None),
        key=lambda each: each[1],
    )
    name = next(name for split, name, _ in _SETS if split == row.set)
    return f"{share:.3f} ({name}, {row.band}, {row.covered} of {row.slides} slides)"


def _provenance(training: Training) -> str:
    on = (
        f"{each.device}, PyTorch {each.torch}"
        + (f", commit `{each.commit}`" if each.commit else "")
        for each in training.environments
    )
    return f"`{training.command}`, on {'; '.join(on)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _paper_accuracies() -> str:
    return " and ".join(f"{p.confusion.accuracy:.3f} on {p.slides} slides" for _, _, p in _SETS)


def _counts(found: Confusion) -> str:
    return f"{found.tp}, {found.fn}, {found.fp}, {found.tn}"


def _part(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _interval(found: Interval) -> str:
    return found.text() or _NONE
