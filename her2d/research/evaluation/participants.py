"""Who was studied: Tables 1 and 2, and what Figures 1 and S1 count. Pure functions.

All numbers are of slides, as in the paper's tables, except where they say patients.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from her2d.research.evaluation.columns import (
    MOST_GROUPS,
    MOST_LEVELS,
    KnownColumn,
    is_column_of_numbers,
    value_in,
    values_of,
)
from her2d.research.evaluation.misdiagnosis import Group, group_of
from her2d.research.evaluation.rows import Row
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.system.numerals import read_number

NOT_KNOWN = "not known"

_TABLE_1 = {
    "internal": (Split.TRAIN, Split.INTEGRATOR, Split.TEST),
    "external": (Split.EXTERNAL,),
}
_TABLE_2 = {
    "training": (Split.TRAIN, Split.INTEGRATOR),
    "test": (Split.TEST,),
    "external": (Split.EXTERNAL,),
}
# Of whom and from where a slide is: Table 1. The paper's Table 2 repeats differentiation.
_IN_TABLE_1 = (
    KnownColumn.SEX,
    KnownColumn.DIFFERENTIATION,
    KnownColumn.SPECIMEN,
    KnownColumn.CENTER,
    KnownColumn.SCANNER,
    KnownColumn.MAGNIFICATION,
)
_NOT_IN_TABLE_2 = frozenset({*_IN_TABLE_1, KnownColumn.AGE}) - {KnownColumn.DIFFERENTIATION}
_SCORES = ("0", "1+", "2+", "3+")
_NOT_DONE = "not done"
_STATUSES = {
    Status.POSITIVE: "positive",
    Status.NEGATIVE: "negative",
    Status.INDETERMINATE: "without tumour",
}


class SetCounts(Row):
    """Slides of one split (Figures 1 and S1).

    Attributes:
        set: Name of the split.
        patients, slides: Their numbers.
        positive, negative, without_tumor: Slides by true status.
        by_ihc: Slides by IHC score; those of 2+ as `2+, FISH positive` and `2+, FISH negative`.
    """

    set: str
    patients: int
    slides: int
    positive: int
    negative: int
    without_tumor: int
    by_ihc: dict[str, int]


class LevelRow(Row):
    """One value of a feature: how many slides have it.

    Attributes:
        feature, level: The feature and the value.
        slides: Number of slides with the value, by dataset.
    """

    feature: str
    level: str
    slides: dict[str, int]


class MeanRow(Row):
    """A feature of numbers, by dataset."""

    feature: str
    groups: dict[str, Group]


class CharacteristicsTable(Row):
    """Table 1 or 2.

    Attributes:
        slides, patients: Their numbers by dataset, which are the table's columns.
        means: Features of numbers.
        levels: Values of the other features.
        left_out: A sentence for each column of the cohort that is not shown, with the reason.
    """

    slides: dict[str, int]
    patients: dict[str, int]
    means: tuple[MeanRow, ...] = ()
    levels: tuple[LevelRow, ...] = ()
    left_out: tuple[str, ...] = ()


def set_counts(slides: Sequence[CohortSlide]) -> tuple[SetCounts, ...]:
    """Count the slides of each split that has any."""
    found = []
    for split in Split:
        of_split = [slide for slide in slides if slide.split is split]
        if of_split:
            status = Counter(slide.her2_status for slide in of_split)
            found.append(
                SetCounts(
                    set=split.value,
                    patients=_patients(of_split),
                    slides=len(of_split),
                    positive=status[Status.POSITIVE],
                    negative=status[Status.NEGATIVE],
                    without_tumor=status[Status.INDETERMINATE],
                    by_ihc=dict(sorted(Counter(map(_ihc, of_split)).items())),
                )
            )
    return tuple(found)


def table_1(slides: Sequence[CohortSlide]) -> CharacteristicsTable:
    """Make Table 1: HER2 status, age, sex, differentiation, and where slides come from."""
    datasets = _datasets(slides, _TABLE_1)
    levels = _level_rows("HER2 status", datasets, _status, list(_STATUSES.values()))
    left_out: list[str] = []
    for column in _IN_TABLE_1:
        name = column.find(slides)
        number_of_levels = 0 if name is None else _count_levels(values_of(slides, name))
        if name is None or not number_of_levels:
            continue
        if number_of_levels > MOST_GROUPS:
            left_out.append(f"{name} has {number_of_levels} levels.")
        else:
            levels += _level_rows(name, datasets, value_in(name))
    levels += _level_rows("IHC score", datasets, _score, _SCORES)
    age = KnownColumn.AGE.find(slides)
    return CharacteristicsTable(
        slides={name: len(of) for name, of in datasets.items()},
        patients={name: _patients(of) for name, of in datasets.items()},
        means=() if age is None else _mean_rows(age, datasets),
        levels=tuple(levels),
        left_out=tuple(left_out),
    )


def table_2(slides: Sequence[CohortSlide]) -> CharacteristicsTable:
    """Make Table 2: the morphology columns of the training, the test and the external slides."""
    datasets = _datasets(slides, _TABLE_2)
    elsewhere = {column.find(slides) for column in _NOT_IN_TABLE_2}
    names = dict.fromkeys(name for slide in slides for name in slide.morphology)
    levels: list[LevelRow] = []
    means: list[MeanRow] = []
    left_out: list[str] = []
    for name in names:
        if name in elsewhere:
            continue
        values = values_of(slides, name)
        if not any(values):
            left_out.append(f"{name} has no values.")
        elif is_column_of_numbers(values):
            means += _mean_rows(name, datasets)
        elif _count_levels(values) > MOST_LEVELS:
            left_out.append(f"{name} has {_count_levels(values)} levels.")
        else:
            levels += _level_rows(name, datasets, value_in(name))
    return CharacteristicsTable(
        slides={name: len(of) for name, of in datasets.items()},
        patients={name: _patients(of) for name, of in datasets.items()},
        means=tuple(means),
        levels=tuple(levels),
        left_out=tuple(left_out),
    )


def _datasets(
    slides: Sequence[CohortSlide], of: dict[str, tuple[Split, ...]]
) -> dict[str, list[CohortSlide]]:
    found = {
        name: [slide for slide in slides if slide.split in splits] for name, splits in of.items()
    }
    return {name: in_it for name, in_it in found.items() if in_it}


def _level_rows(
    feature: str,
    datasets: dict[str, list[CohortSlide]],
    level_of: Callable[[CohortSlide], str],
    levels: Sequence[str] = (),
) -> list[LevelRow]:
    counts = {name: Counter(map(level_of, of)) for name, of in datasets.items()}
    found = {level for count in counts.values() for level in count}
    # Levels without an order of their own are in that of the alphabet, and what is missing is last.
    order = [*levels, *sorted(found - set(levels) - {""}), ""]
    return [
        LevelRow(
            feature=feature,
            level=level or NOT_KNOWN,
            slides={name: count[level] for name, count in counts.items()},
        )
        for level in order
        if level in found
    ]


def _mean_rows(column: str, datasets: dict[str, list[CohortSlide]]) -> tuple[MeanRow, ...]:
    groups = {
        name: group_of(
            [v for text in values_of(of, column) if (v := read_number(text)) is not None]
        )
        for name, of in datasets.items()
    }
    known = any(group.slides for group in groups.values())
    return (MeanRow(feature=column, groups=groups),) if known else ()


def _count_levels(values: Sequence[str]) -> int:
    return len(set(filter(None, values)))


def _status(slide: CohortSlide) -> str:
    return _STATUSES[slide.her2_status]


def _score(slide: CohortSlide) -> str:
    return slide.ihc_score or _NOT_DONE


def _ihc(slide: CohortSlide) -> str:
    if slide.ihc_score == "2+":
        # 2+ without FISH is refused when the table is read, so the status is that of FISH.
        return f"2+, FISH {slide.her2_status.value}"
    return _score(slide)


def _patients(slides: Sequence[CohortSlide]) -> int:
    return len({slide.patient for slide in slides})
