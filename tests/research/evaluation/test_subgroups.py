"""Results of subgroups of the test sets."""

import pytest
from cohort_slides import cohort_slide, prediction_of
from scipy.stats import binomtest

from her2d.research.evaluation.subgroups import FEWEST, subgroup_rows


def slides(number: int, status: str, percent: float | None, **columns: str):
    for at in range(number):
        name = f"{status}-{percent}-{'-'.join(columns.values())}-{at}"
        slide = cohort_slide(name, status, **columns)
        yield slide, prediction_of(slide, percent)


def rows(found, by: str) -> dict[str, object]:
    return {row.level: row for row in subgroup_rows(found) if row.by == by}


def test_each_centre_has_its_own_metrics_with_its_number_of_slides():
    found = [
        *slides(12, "positive", 30.0, centre="A"),
        *slides(3, "positive", 2.0, centre="A"),
        *slides(15, "negative", 1.0, centre="A"),
        *slides(4, "negative", 20.0, centre="B"),
    ]
    by_center = rows(found, "centre")
    assert by_center["A"].slides == 30
    assert by_center["A"].sensitivity.value == pytest.approx(0.8)
    wilson = binomtest(12, 15).proportion_ci(0.95, method="wilson")
    assert by_center["A"].sensitivity.low == pytest.approx(wilson.low)
    assert by_center["A"].sensitivity.high == pytest.approx(wilson.high)
    assert by_center["B"].specificity.value == 0
    assert by_center["B"].sensitivity.value is None


def test_a_subgroup_with_few_slides_of_a_status_is_marked_as_small():
    found = [
        *slides(FEWEST, "positive", 30.0, sex="male"),
        *slides(FEWEST, "negative", 1.0, sex="male"),
        *slides(FEWEST, "positive", 30.0, sex="female"),
        *slides(FEWEST - 1, "negative", 1.0, sex="female"),
    ]
    by_sex = rows(found, "sex")
    assert not by_sex["male"].is_small
    assert by_sex["female"].is_small


def test_ihc_scores_are_of_one_status_which_does_not_make_them_small():
    found = list(slides(FEWEST, "negative", 1.0, ihc="1+"))
    row = rows(found, "IHC score")["1+"]
    assert not row.is_small
    assert row.specificity.value == 1
    assert row.auroc.value is None


def test_age_is_divided_at_65_and_slides_without_a_value_are_in_no_subgroup():
    found = [
        *slides(1, "negative", 1.0, age="64"),
        *slides(1, "negative", 1.0, age="65"),
        *slides(1, "negative", 1.0, age=""),
    ]
    assert {level: row.slides for level, row in rows(found, "age").items()} == {
        "from 65 years": 1,
        "under 65 years": 1,
    }


def test_slides_without_a_call_are_counted_and_in_no_metric():
    found = [*slides(2, "negative", 1.0, centre="A"), *slides(1, "negative", None, centre="A")]
    row = rows(found, "centre")["A"]
    assert (row.slides, row.without_call, row.accuracy.value) == (3, 1, 1)


def test_slides_without_tumour_make_no_subgroup():
    assert subgroup_rows(list(slides(3, "indeterminate", None, centre="A", ihc=""))) == ()


def test_a_column_with_a_value_for_every_slide_is_not_a_subgroup():
    found = [pair for n in range(20) for pair in slides(1, "negative", 1.0, centre=f"C{n}")]
    assert rows(found, "centre") == {}
