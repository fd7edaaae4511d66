"""Which slides are predicted wrong: the paper's analysis of misdiagnosis (2.4, Tables 3 and 4).

False negatives are compared with true positives, false positives with true negatives, by the
chi-square test with Yates' correction. The paper's groups are small (2 false negatives), where
chi-square's approximation is poor, so Fisher's exact test stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, multivariate_hypergeom

_MOST_TABLES = 200_000
_RANDOM_TABLES = 9_999
_ROUNDING = 1e-7


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
class GroupTests:
    """P values of one comparison; None where a level or a group holds no slide at all."""

    chi_square: float | None
    fisher: float | None
    simulated: bool = False
    """`fisher` is estimated from random tables: there are too many to sum up all."""

    @property
    def chi_square_text(self) -> str:
        """As tables print it."""
        return _p_text(self.chi_square)

    @property
    def fisher_text(self) -> str:
        """As tables print it, marked where it is estimated."""
        return f"≈ {_p_text(self.fisher)}" if self.simulated else _p_text(self.fisher)


@dataclass(frozen=True, slots=True)
class FeatureTest:
    """One feature's rows in Table 3 or 4."""

    table: str
    feature: str
    levels: tuple[LevelCounts, ...]
    positive: GroupTests
    """False negatives against true positives."""
    negative: GroupTests
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
                compare_groups([(level.fn, level.tp) for level in levels]),
                compare_groups([(level.fp, level.tn) for level in levels]),
            )
        )
    return tests


def compare_groups(rows: Sequence[tuple[int, int]]) -> GroupTests:
    """Compare two groups, (wrong, right) by level.

    As the paper's note under Table 4 has it, no test is made where a level, or a group, is empty.
    Yates' correction applies to two levels; Fisher's test of more levels is Freeman-Halton's, exact
    where there are up to 200,000 tables of the same sums. The same rows always give the same.
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
    """How probable tables of the same sums are that are no likelier, and whether that is estimated.

    SciPy sums them up for two levels only, and draws them at random for more.
    """
    sizes = table.sum(axis=1)
    rarer = table[:, int(table.sum(axis=0).argmin())]
    null = multivariate_hypergeom(sizes, rarer.sum())
    # Tables as likely as the observed one may differ by rounding.
    most = null.pmf(rarer) * (1 + _ROUNDING)
    spreads = _spreads(sizes, int(rarer.sum()))
    if spreads is not None:
        p = null.pmf(spreads)
        return min(1.0, float(p[p <= most].sum())), False
    drawn = null.pmf(null.rvs(_RANDOM_TABLES, random_state=np.random.default_rng(0)))
    # The observed table is one of them, so that no P is 0.
    return float((1 + (drawn <= most).sum()) / (1 + _RANDOM_TABLES)), True


def _spreads(sizes: NDArray[np.int64], slides: int) -> NDArray[np.int64] | None:
    """Every way to spread `slides` over levels of these sizes, int64 (ways, levels)."""
    ways = np.zeros((1, 0), np.int64)
    for level, size in enumerate(sizes):
        left = slides - ways.sum(axis=1)
        low = np.maximum(0, left - sizes[level + 1 :].sum())
        choices = np.minimum(size, left) - low + 1
        # Each beginning can be completed, so that there are never more of them than ways.
        if choices.sum() > _MOST_TABLES:
            return None
        nth = np.arange(choices.sum()) - np.repeat(choices.cumsum() - choices, choices)
        chosen = np.repeat(low, choices) + nth
        ways = np.column_stack([np.repeat(ways, choices, axis=0), chosen])
    return ways
