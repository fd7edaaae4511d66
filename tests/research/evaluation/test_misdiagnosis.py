"""The paper's Tables 3 and 4, from the counts printed in them."""

from itertools import product
from math import comb, prod

import pytest
from scipy.stats import hypergeom

from her2d.research.evaluation.counts import CountsError, read_counts
from her2d.research.evaluation.misdiagnosis import (
    LevelCounts,
    compare_groups,
    misdiagnosis_tests,
)
from tools.bundle_results.paper import COUNTS

# As printed; None is NA. Table 4 truncates signet-ring's 0.3217 to 0.321.
PRINTED = {
    ("Table 3", "Gender"): (1, 0.389),
    ("Table 3", "Tertiary lymphoid structure"): (1, 0.556),
    ("Table 3", "Mucinous differentiation"): (0.507, 1),
    ("Table 3", "Adenoid differentiation"): (1, 0.014),
    ("Table 3", "Papillary differentiation"): (1, 0.821),
    ("Table 3", "Signet-ring cell"): (1, 0.586),
    ("Table 3", "Poor differentiation"): (0.791, 0.841),
    ("Table 4", "Gender"): (1, 1),
    ("Table 4", "Tertiary lymphoid structure"): (1, 0.310),
    ("Table 4", "Mucinous differentiation"): (0.296, 0.653),
    ("Table 4", "Adenoid differentiation"): (0.649, 0.472),
    ("Table 4", "Papillary differentiation"): (0.409, 0.018),
    ("Table 4", "Signet-ring cell"): (None, 0.321),
    ("Table 4", "Poor differentiation"): (1, 0.096),
}


def test_every_printed_p_value_is_reproduced():
    tests = misdiagnosis_tests(read_counts(COUNTS))
    found = {(t.table, t.feature): (t.positive.chi_square, t.negative.chi_square) for t in tests}
    assert list(found) == list(PRINTED)
    for feature, printed in PRINTED.items():
        for p, expected in zip(found[feature], printed, strict=True):
            assert p is None if expected is None else p == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    ("table", "sizes"), [("Table 3", (2, 16, 9, 88)), ("Table 4", (3, 18, 8, 73))]
)
def test_the_counts_of_each_feature_make_up_the_tables_groups(table, sizes):
    for test in misdiagnosis_tests(read_counts(COUNTS)):
        if test.table == table:
            sums = zip(*[(lv.fn, lv.tp, lv.fp, lv.tn) for lv in test.levels], strict=True)
            assert tuple(map(sum, sums)) == sizes


def test_fishers_test_is_the_hypergeometric_tail():
    # 2 of 8 false positives and 1 of 73 true negatives are papillary (Table 4).
    at_least = float(hypergeom(81, 3, 8).sf(1))
    assert compare_groups([(2, 1), (6, 72)]).fisher == pytest.approx(at_least)


def test_nothing_is_tested_if_a_level_is_empty():
    assert compare_groups([(0, 0), (3, 18)]).chi_square is None


def test_nothing_is_tested_if_no_slide_is_predicted_wrong():
    assert compare_groups([(0, 5), (0, 6)]).fisher is None


def test_features_of_three_levels_are_tested_too():
    found = compare_groups([(3, 10), (5, 9), (1, 20)])
    assert 0 < found.chi_square < 1
    assert 0 < found.fisher < 1


def test_fishers_test_of_three_levels_sums_over_all_tables_at_most_as_likely():
    rows = [(3, 10), (5, 9), (1, 20)]
    sizes, wrong = [sum(row) for row in rows], 9

    def ways(spread: tuple[int, ...]) -> int:
        return prod(comb(size, n) for size, n in zip(sizes, spread, strict=True))

    spreads = [s for s in product(range(wrong + 1), repeat=3) if sum(s) == wrong]
    observed = ways((3, 5, 1))
    rarer = sum(ways(s) for s in spreads if ways(s) <= observed)
    found = compare_groups(rows)
    assert found.fisher == pytest.approx(rarer / comb(sum(sizes), wrong))
    assert not found.simulated


def test_fishers_test_is_estimated_and_marked_if_there_are_too_many_tables():
    rows = [(40 + n, 60 - n) for n in range(6)]
    found = compare_groups(rows)
    assert found.simulated
    assert found == compare_groups(rows)


def test_a_feature_of_a_single_level_is_refused():
    with pytest.raises(ValueError, match="two or more levels"):
        misdiagnosis_tests([LevelCounts("t", "f", "only", 1, 1, 1, 1)])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("table,feature,level,fn,tp,fp,tn\nt,f,a,1,2,3,x\n", "line 2, tn"),
        ("table,feature,level,fn,tp,fp,tn\nt,f,a,1,2,3,-4\n", "line 2, tn"),
        ("table,feature,level,fn,tp,fp\nt,f,a,1,2,3\n", "the column 'tn' is missing"),
        ("table,feature,level,fn,tp,fp,tn\n", "does not list any counts"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, text, sentence):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(CountsError, match=sentence):
        read_counts(tmp_path / "counts.csv")
