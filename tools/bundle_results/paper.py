"""What the paper reports (Liao et al. 2025, doi:10.1002/advs.202408451).

Tables S1 to S4 are quoted as its sections 2.2, 2.3 and 4 quote them: the supporting information
itself is not here, so that what only stands there is None. Tables 3 and 4 are `paper_counts.csv`,
from which their P values follow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.counts import read_counts
from her2d.research.evaluation.misdiagnosis import FeatureTest, Group, misdiagnosis_tests

# Absences of poor differentiation in Table 4 are the group sizes less the presences: the column
# printed there repeats Table 3's.
COUNTS = Path(__file__).with_name("paper_counts.csv")


@dataclass(frozen=True, slots=True)
class PaperSet:
    """One test set of the paper.

    Attributes:
        slides, patients, positive: their numbers (section 2.1).
        miou: of SegNet (section 4, Table S1).
        tile_auroc: of the integrated classifier; None where the text has none (Table S3).
        tile_sensitivity: the same.
        confusion: of the slides (Tables 3 and 4).
        counts: name of the set's table in `paper_counts.csv`.
    """

    slides: int
    patients: int
    positive: int
    miou: float
    tile_auroc: float | None
    tile_sensitivity: float | None
    confusion: Confusion
    counts: str


@dataclass(frozen=True, slots=True)
class PaperCohort:
    """One dataset in Table 1.

    Attributes:
        slides, patients: their numbers.
        age: mean and standard deviation, in years.
        levels: slides by feature and level, named as in a report.
    """

    slides: int
    patients: int
    age: Group
    levels: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Misprint:
    """A feature of a test set that is in another number of slides by Table 2 than by `table`."""

    feature: str
    table: str
    by_table_2: int
    by_table: int


@dataclass(frozen=True, slots=True)
class PaperFeatures:
    """One dataset in Table 2: how many slides, and how many of them show each feature."""

    slides: int
    present: Mapping[str, int]


FOLD_AUROC = 0.9379
"""Mean of ResNet50's five held-out folds (section 2.3, Table S2)."""
TRAINING_SLIDES = 531
"""Section 2.1."""

INTERNAL = PaperSet(
    slides=115,
    patients=111,
    positive=18,
    miou=0.8606,
    tile_auroc=None,
    tile_sensitivity=None,
    confusion=Confusion(tp=16, fn=2, fp=9, tn=88),
    counts="Table 3",
)

EXTERNAL = PaperSet(
    slides=102,
    patients=101,
    positive=21,
    miou=0.8207,
    tile_auroc=0.9769,
    tile_sensitivity=0.9373,
    confusion=Confusion(tp=18, fn=3, fp=8, tn=73),
    counts="Table 4",
)

TABLE_1: Mapping[str, PaperCohort] = {
    "internal": PaperCohort(
        slides=646,
        patients=632,
        age=Group(646, 57.647, 11.950),
        levels={
            ("HER2 status", "positive"): 81,
            ("HER2 status", "negative"): 565,
            ("sex", "male"): 418,
            ("sex", "female"): 228,
            ("differentiation", "poor"): 509,
            ("differentiation", "moderate_or_well"): 137,
        },
    ),
    "external": PaperCohort(
        slides=102,
        patients=101,
        age=Group(102, 56.843, 12.020),
        levels={
            ("HER2 status", "positive"): 21,
            ("HER2 status", "negative"): 81,
            ("sex", "male"): 70,
            ("sex", "female"): 32,
            ("differentiation", "poor"): 78,
            ("differentiation", "moderate_or_well"): 24,
        },
    ),
}

TABLE_2: Mapping[str, PaperFeatures] = {
    "training": PaperFeatures(
        531,
        {
            "Tertiary lymphoid structure": 388,
            "Mucinous differentiation": 110,
            "Adenoid differentiation": 312,
            "Papillary differentiation": 47,
            "Signet-ring cell": 185,
            "Poor differentiation": 408,
        },
    ),
    "test": PaperFeatures(
        115,
        {
            "Tertiary lymphoid structure": 82,
            "Mucinous differentiation": 26,
            "Adenoid differentiation": 60,
            "Papillary differentiation": 7,
            "Signet-ring cell": 37,
            "Poor differentiation": 89,
        },
    ),
    "external": PaperFeatures(
        102,
        {
            "Tertiary lymphoid structure": 65,
            "Mucinous differentiation": 12,
            "Adenoid differentiation": 65,
            "Papillary differentiation": 11,
            "Signet-ring cell": 28,
            "Poor differentiation": 71,
        },
    ),
}

IN_A_REPORT: Mapping[str, tuple[str, str, str]] = {
    "Gender": ("sex", "Male", "male"),
    "Tertiary lymphoid structure": ("tertiary_lymphoid_structure", "Presence", "present"),
    "Mucinous differentiation": ("mucinous_differentiation", "Presence", "present"),
    "Adenoid differentiation": ("adenoid_differentiation", "Presence", "present"),
    "Papillary differentiation": ("papillary_differentiation", "Presence", "present"),
    "Signet-ring cell": ("signet_ring_cell", "Presence", "present"),
    "Poor differentiation": ("differentiation", "Presence", "poor"),
}
"""Feature in Tables 2 to 4 -> the feature in a report, the level in the paper and in a report."""


def misdiagnosis() -> tuple[FeatureTest, ...]:
    """Return Tables 3 and 4, with P computed from their counts."""
    return tuple(misdiagnosis_tests(read_counts(COUNTS)))


def misprints() -> Iterator[Misprint]:
    """Find where Table 2 differs from Tables 3 and 4, which count the same slides."""
    data = {INTERNAL.counts: "test", EXTERNAL.counts: "external"}
    for test in misdiagnosis():
        printed = TABLE_2[data[test.table]].present.get(test.feature)
        counted = sum(
            each.fn + each.tp + each.fp + each.tn
            for each in test.levels
            if each.level == IN_A_REPORT[test.feature][1]
        )
        if printed is not None and printed != counted:
            yield Misprint(test.feature, test.table, printed, counted)
