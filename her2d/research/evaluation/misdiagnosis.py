"""Test which features are associated with wrong predictions (paper, section 2.4, Tables 3 and 4).

Numbers, such as ages, are compared by their means as in Table 1, and tested by Mann and Whitney's
rank test. Many features are tested, so P is also given as adjusted by Holm 1979.

False negatives are compared with true positives, and false positives with true negatives, by the
chi-square test with Yates' correction. The paper's groups are small (2 false negatives), which
makes the chi-square approximation poor, so Fisher's exact test is reported too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, mannwhitneyu, multivariate_hypergeom

_MOST_TABLES = 200_000
_RANDOM_TABLES = 9_999
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """Numbers of slides with one level of one feature.

    Attributes:
        table: Name of the table, such as the test set.
        feature: Name of the feature.
        level: One of the feature's values.
        fn, tp, fp, tn: False negatives, true positives, false positives and true negatives.
    """

    table: str
    feature: str
    level: str
    fn: int
    tp: int
    fp: int
    tn: int


@dataclass(frozen=True, slots=True)
class GroupTests:
    """P values of one comparison; None if a level or a group is empty.

    Attributes:
        chi_square: P of the chi-square test.
        fisher: P of Fisher's exact test.
        simulated: Whether `fisher` is estimated from random tables, because there are too many
            tables to sum over.
    """

    chi_square: float | None
    fisher: float | None
    simulated: bool = False

    @property
    def chi_square_text(self) -> str:
        """P of the chi-square test as printed in tables."""
        return _p_text(self.chi_square)

    @property
    def fisher_text(self) -> str:
        """P of Fisher's exact test as printed in tables, marked if it is estimated."""
        return f"≈ {_p_text(self.fisher)}" if self.simulated else _p_text(self.fisher)


@dataclass(frozen=True, slots=True)
class FeatureTest:
    """One feature's rows in Table 3 or 4.

    Attributes:
        table: Name of the table.
        feature: Name of the feature.
        levels: Numbers of slides by level.
        positive: False negatives compared with true positives.
        negative: False positives compared with true negatives.
    """

    table: str
    feature: str
    levels: tuple[LevelCounts, ...]
    positive: GroupTests
    negative: GroupTests


@dataclass(frozen=True, slots=True)
class Group:
    """Values of one feature in one group of slides; None if there are too few.

    Attributes:
        slides: Number of slides with a value.
        mean: Mean of the values.
        std: Standard deviation of a sample.
    """

    slides: int
    mean: float | None
    std: float | None

    @property
    def text(self) -> str:
        """Mean and standard deviation as printed in tables."""
        if self.mean is None:
            return "NA"
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@dataclass(frozen=True, slots=True)
class NumberTest:
    """One feature of numbers in Table 3 or 4.

    Attributes:
        table: Name of the table.
        feature: Name of the feature.
        all: All slides.
        fn, tp, fp, tn: False negatives, true positives, false positives and true negatives.
        positive: P of false negatives compared with true positives; None if a group is empty.
        negative: P of false positives compared with true negatives, likewise.
    """

    table: str
    feature: str
    all: Group
    fn: Group
    tp: Group
    fp: Group
    tn: Group
    positive: float | None
    negative: float | None

    @property
    def positive_text(self) -> str:
        """P of the comparison of positive slides as printed in tables."""
        return _p_text(self.positive)

    @property
    def negative_text(self) -> str:
        """P of the comparison of negative slides as printed in tables."""
        return _p_text(self.negative)


def number_test(
    table: str, feature: str, values: Mapping[str, Sequence[float]], others: Sequence[float] = ()
) -> NumberTest:
    """Compare the numbers of slides that are predicted wrong and right.

    Args:
        table: Name of the table.
        feature: Name of the feature.
        values: Values of the groups fn, tp, fp and tn; a group without slides may be missing.
        others: Values of slides in no group.
    """
    groups = {name: list(values.get(name, ())) for name in ("fn", "tp", "fp", "tn")}
    everything = [*others, *(value for group in groups.values() for value in group)]
    return NumberTest(
        table,
        feature,
        all=group_of(everything),
        **{name: group_of(group) for name, group in groups.items()},
        positive=_rank_test(groups["fn"], groups["tp"]),
        negative=_rank_test(groups["fp"], groups["tn"]),
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust P values for their number (Holm 1979).

    Args:
        p_values: P of each test; None where no test was made, which does not count.
    """
    known = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, number) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[number] = highest
    return adjusted


def group_of(values: Sequence[float]) -> Group:
    """Return the number, the mean and the standard deviation of values."""
    return Group(
        len(values),
        float(np.mean(values)) if values else None,
        float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def _rank_test(wrong: Sequence[float], right: Sequence[float]) -> float | None:
    return float(mannwhitneyu(wrong, right).pvalue) if wrong and right else None


def misdiagnosis_tests(counts: Sequence[LevelCounts]) -> list[FeatureTest]:
    """Test every feature of every table, in the order of their first rows.

    Args:
        counts: Numbers of slides; each level of a feature once.

    Raises:
        ValueError: A feature has a single level, or the same level twice.
    """
    features: dict[tuple[str, str], list[LevelCounts]] = {}
    for level in counts:
        features.setdefault((level.table, level.feature), []).append(level)
    tests = []
    for (table, feature), levels in features.items():
        if len(levels) < 2 or len({level.level for level in levels}) < len(levels):
            raise ValueError(f"{feature} of {table} must have two or more levels, each once")
        tests.append(
            FeatureTest(
                table,
                feature,
                tuple(levels),
                compare_groups([(level.fn, level.tp) for level in levels]),
                compare_groups([(level.fp, level.tn) for level in levels]),
            )
        )
    return tests


def compare_groups(rows: Sequence[tuple[int, int]]) -> GroupTests:
    """Compare slides predicted wrong with slides predicted correctly.

    No test is made if a level or a group is empty, as the paper notes under Table 4. Yates'
    correction applies to two levels. Fisher's test of more than two levels is Freeman-Halton's,
    which is exact for up to 200,000 tables with the same sums and otherwise estimated with a fixed
    seed.

    Args:
        rows: Numbers of slides, (wrong, correct), by level.
    """
    table = np.array(rows)
    if not (table.sum(axis=0).all() and table.sum(axis=1).all()):
        return GroupTests(None, None)
    chi_square = float(chi2_contingency(table, correction=True).pvalue)
    if len(table) == 2:
        return GroupTests(chi_square, float(fisher_exact(table).pvalue))
    fisher, simulated = _freeman_halton(table)
    return GroupTests(chi_square, fisher, simulated)


def _p_text(p: float | None) -> str:
    return "NA" if p is None else f"{p:.3f}"


def _freeman_halton(table: NDArray[np.int64]) -> tuple[float, bool]:
    """Sum the probabilities of all tables that are at most as likely as the observed one.

    SciPy sums over tables of two levels only, and samples tables of more levels at random.

    Returns:
        P, and whether it is estimated from random tables.
    """
    sizes = table.sum(axis=1)
    rarer = table[:, int(table.sum(axis=0).argmin())]
    null = multivariate_hypergeom(sizes, rarer.sum())
    # Tables as likely as the observed one may differ by rounding.
    most = null.pmf(rarer) * (1 + _ROUNDING)
    ways = _distributions(sizes, int(rarer.sum()))
    if ways is not None:
        p = null.pmf(ways)
        return min(1.0, float(p[p <= most].sum())), False
    drawn = null.pmf(null.rvs(_RANDOM_TABLES, random_state=np.random.default_rng(0)))
    # Counting the observed table as one of them keeps P above 0.
    return float((1 + (drawn <= most).sum()) / (1 + _RANDOM_TABLES)), True


def _distributions(sizes: NDArray[np.int64], slides: int) -> NDArray[np.int64] | None:
    """Enumerate the ways to distribute slides over levels of these sizes, int64 (ways, levels).

    Returns None if there are more than 200,000 ways.
    """
    ways = np.zeros((1, 0), np.int64)
    for level, size in enumerate(sizes):
        left = slides - ways.sum(axis=1)
        low = np.maximum(0, left - sizes[level + 1 :].sum())
        choices = np.minimum(size, left) - low + 1
        # Each partial way can be completed, so there are never more of them than complete ways.
        if choices.sum() > _MOST_TABLES:
            return None
        nth = np.arange(choices.sum()) - np.repeat(choices.cumsum() - choices, choices)
        chosen = np.repeat(low, choices) + nth
        ways = np.column_stack([np.repeat(ways, choices, axis=0), chosen])
    return ways
