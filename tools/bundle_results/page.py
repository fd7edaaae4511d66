"""The page, from an evaluation's report and the paper's figures."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.figures import agreement_figure
from her2d.research.evaluation.report import Report
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.slide_predictions import validated_slides
from her2d.research.training.cohort import Split, Status
from tools.bundle_results.paper import EXTERNAL, FOLD_AUROC, INTERNAL, PaperSet
from tools.docs.markdown import table

_TEXT = Path(__file__).with_name("page.md.template")
_SETS = ((Split.TEST, "internal", INTERNAL), (Split.EXTERNAL, "external", EXTERNAL))
_HEADS = ("", *chain.from_iterable((f"paper, {n}", f"simulated, {n}") for _, n, _ in _SETS))
_NONE = "-"


def page(report: Report) -> str:
    """Return the page in Markdown.

    Raises:
        ValueError: the report lacks one of the two test sets.
    """
    for name, _, _ in _SETS:
        if report.bundle_row(name) is None:
            raise ValueError(f"the report has no results of the set {name}")
    calls = [
        p for p in report.predictions if Status.INDETERMINATE not in (p.true_status, p.predicted)
    ]
    wrong = [p for p in calls if p.predicted != p.true_status]
    return _TEXT.read_text().format(
        command="make demo-bundle",
        seed=report.seed,
        version=report.code_version,
        participants=_participants(report),
        networks=_networks(report),
        slides=_slides(report),
        coverage=_coverage(report),
        covered=_covered(report, Split.EXTERNAL),
        features=_features(report),
        borderline=sum(p.borderline for p in calls),
        calls=len(calls),
        wrong=len(wrong),
        wrong_and_borderline=sum(p.borderline for p in wrong),
        interval=report.interval,
        least_tumor=report.least_tumor,
        rule_out=report.rule_out.note if report.rule_out else "",
        paper_intervals=_paper_intervals(),
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


def _slides(report: Report) -> str:
    def measured(split: Split, name: str) -> str:
        row = report.bundle_row(split)
        assert row is not None  # page() has asked
        return _interval(getattr(row, name))

    def counted(split: Split) -> str:
        row = report.bundle_row(split)
        assert row is not None
        return _counts(row.confusion)

    def left_out(split: Split) -> tuple[str, str]:
        row = report.bundle_row(split)
        assert row is not None
        called = row.without_tumor.positive + row.without_tumor.negative
        return str(row.indeterminate), f"{called} of {called + row.without_tumor.indeterminate}"

    def metric(name: str) -> tuple[str, ...]:
        return _rows(
            f"{name} (S4)",
            lambda s, p: (_number(getattr(p.confusion, name)), measured(s, name)),
        )

    return table(
        _HEADS,
        [
            _rows("TP, FN, FP, TN (S2)", lambda s, p: (_counts(p.confusion), counted(s))),
            *(metric(name) for name in ("accuracy", "sensitivity", "specificity")),
            _rows("slide AUROC", lambda s, _: (_NONE, measured(s, "auroc"))),
            _rows("with tumour, not called", lambda s, _: ("by hand", left_out(s)[0])),
            _rows("without tumour, called", lambda s, _: (_NONE, left_out(s)[1])),
        ],
    )


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


def _covered(report: Report, split: Split) -> str:
    (row,) = (row for row in report.coverage if (row.set, row.band) == (split, "all"))
    return f"{row.covered} of {row.slides}"


def _features(report: Report) -> str:
    rows = []
    for split, name, paper in _SETS:
        feature, p = paper.false_positives_show
        for test in report.misdiagnosis:
            if test.table != split:
                continue
            present = [level for level in test.levels if level.level == "present"]
            rows += [
                (
                    name,
                    test.feature.replace("_", " "),
                    f"{level.fn} and {level.tp}",
                    test.positive.fisher_text,
                    f"{level.fp} and {level.tn}",
                    test.negative.fisher_text,
                    f"{p:g}" if test.feature == feature else "over 0.05",
                )
                for level in present
            ]
    heads = ("centre", "present in", "FN and TP", "P", "FP and TN", "P", "P of FP and TN, paper")
    return table(heads, rows)


def _paper_intervals() -> str:
    return " and ".join(f"{p.confusion.accuracy:.3f} on {p.slides} slides" for _, _, p in _SETS)


def _counts(found: Confusion) -> str:
    return f"{found.tp}, {found.fn}, {found.fp}, {found.tn}"


def _part(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _interval(found: Interval) -> str:
    if found.value is None:
        return _NONE
    return f"{_number(found.value)} ({_number(found.low)} to {_number(found.high)})"
