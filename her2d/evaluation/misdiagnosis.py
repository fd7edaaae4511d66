"""Which slides are called wrong: the paper's analysis of misdiagnosis (2.4, Tables 3 and 4).

False negatives are compared with true positives, false positives with true negatives, by the
chi-square test with Yates' correction. The paper's groups are small (2 false negatives), where
chi-square's approximation is poor, so Fisher's exact test stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2_contingency, fisher_exact


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """Slides of one level of one feature, by how they were called."""

    table: str
    feature: str
    level: str
    fn: int
    tp: int
    fp: int
    tn: int


@dataclass(frozen=True, slots=True)
class TwoTests:
    """P values of one comparison; None where a level or a group holds no slide at all."""

    chi_square: float | None
    fisher: float | None


@dataclass(frozen=True, slots=True)
class FeatureTest:
    """One feature's rows in Table 3 or 4."""

    table: str
    feature: str
    levels: tuple[LevelCounts, ...]
    positive: TwoTests
    """False negatives against true positives."""
    negative: TwoTests
    """False positives against true negatives."""


def misdiagnosis_tests(counts: Sequence[LevelCounts]) -> list[FeatureTest]:
    """Test every feature of every table, in the order in which they come.

    Raises:
        ValueError: a feature has a single level, or the same level twice.
    """
    features: dict[tuple[str, str], list[LevelCounts]] = {}
    for level in counts:
        features.setdefault((level.table, level.feature), []).append(level)
    tests = []
    for (table, feature), levels in features.items():
        if len(levels) < 2 or len({level.level for level in levels}) < len(levels):
            raise ValueError(f"{feature} of {table} must have two levels or more, each once")
        tests.append(
            FeatureTest(
                table,
                feature,
                tuple(levels),
                two_tests([(level.fn, level.tp) for level in levels]),
                two_tests([(level.fp, level.tn) for level in levels]),
            )
        )
    return tests


def two_tests(rows: Sequence[tuple[int, int]]) -> TwoTests:
    """Compare two groups, (wrong, right) by level.

    As the paper's note under Table 4 has it, no test is made where a level, or a group, is empty.
    Yates' correction applies to two levels; Fisher's test of more levels is Freeman-Halton's.
    """
    table = np.array(rows)
    if not (table.sum(axis=0).all() and table.sum(axis=1).all()):
        return TwoTests(None, None)
    exact = fisher_exact(table)
    return TwoTests(float(chi2_contingency(table, correction=True).pvalue), float(exact.pvalue))
