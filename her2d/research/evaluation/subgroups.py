"""Results of subgroups: by centre, scanner, IHC score and differentiation. Pure functions."""

from collections.abc import Callable, Iterator, Sequence

from her2d.research.evaluation.called_slides import Prediction, metrics_of, with_status
from her2d.research.evaluation.columns import MOST_GROUPS, KnownColumn, value_in
from her2d.research.evaluation.rows import Interval, Row
from her2d.research.training.cohort import CohortSlide, Status
from her2d.system.numerals import read_number

FEWEST = 10
"""With fewer positive or negative slides than that, a subgroup is marked as small."""
OLDER_FROM = 65

_BY_COLUMN = {
    "centre": KnownColumn.CENTER,
    "scanner": KnownColumn.SCANNER,
    "differentiation": KnownColumn.DIFFERENTIATION,
    "sex": KnownColumn.SEX,
    "specimen": KnownColumn.SPECIMEN,
    "magnification": KnownColumn.MAGNIFICATION,
}

Predicted = tuple[CohortSlide, Prediction]


class SubgroupRow(Row):
    """One subgroup of a test set.

    Attributes:
        set: Name of the test set.
        by: What divides the set into subgroups.
        level: This subgroup's value.
        slides, patients, positive: Numbers of slides with a true status, of their patients, and of
            positive ones among the slides.
        without_call: Slides without a call, which no metric includes.
        is_small: Whether so few slides are positive or negative that the metrics say little.
        accuracy, sensitivity, specificity, auroc: The metrics.
    """

    set: str
    by: str
    level: str
    slides: int
    patients: int
    positive: int
    without_call: int
    is_small: bool
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: Interval


def subgroup_rows(found: Sequence[Predicted]) -> tuple[SubgroupRow, ...]:
    """Measure each subgroup of each test set.

    A column with one value in a test set is kept, so that the report says so. One that the cohort
    does not have, or with more than twelve values, gives no rows.

    Args:
        found: Slides with the prediction of the bundle.
    """
    rows: list[SubgroupRow] = []
    for name in dict.fromkeys(slide.split.value for slide, _ in found):
        of_set = [pair for pair in found if pair[0].split.value == name]
        for by, level_of in _divisions(found):
            groups: dict[str, list[Prediction]] = {}
            for slide, prediction in of_set:
                if level := level_of(slide):
                    groups.setdefault(level, []).append(prediction)
            if len(groups) <= MOST_GROUPS:
                rows += [_row(name, by, level, groups[level]) for level in sorted(groups)]
    return tuple(row for row in rows if row.slides)


def _divisions(found: Sequence[Predicted]) -> Iterator[tuple[str, Callable[[CohortSlide], str]]]:
    slides = [slide for slide, _ in found]
    yield "IHC score", lambda slide: slide.ihc_score
    for by, column in _BY_COLUMN.items():
        name = column.find(slides)
        if name is not None:
            yield by, value_in(name)
    age = KnownColumn.AGE.find(slides)
    if age is not None:
        yield "age", _age_group(age)


def _age_group(column: str) -> Callable[[CohortSlide], str]:
    def group(slide: CohortSlide) -> str:
        age = read_number(value_in(column)(slide))
        if age is None:
            return ""
        return f"from {OLDER_FROM} years" if age >= OLDER_FROM else f"under {OLDER_FROM} years"

    return group


def _row(set_name: str, by: str, level: str, predictions: Sequence[Prediction]) -> SubgroupRow:
    known = with_status(predictions)
    metrics = metrics_of(known)
    positive = sum(each.true_status == Status.POSITIVE for each in known)
    # An IHC score has slides of one status only, which is not what makes it small.
    classes = [count for count in (positive, len(known) - positive) if count]
    return SubgroupRow(
        set=set_name,
        by=by,
        level=level,
        slides=len(known),
        patients=len({each.patient for each in known}),
        positive=positive,
        without_call=len(known) - metrics.confusion.total,
        is_small=min(classes, default=0) < FEWEST,
        accuracy=Interval.of(metrics.accuracy),
        sensitivity=Interval.of(metrics.sensitivity),
        specificity=Interval.of(metrics.specificity),
        auroc=Interval.of(metrics.auroc),
    )
