"""Tables 1 and 2, and what Figures 1 and S1 count."""

import re

import pytest
from cohort_slides import cohort_slide

from her2d.research.evaluation.flow_figures import participants_figure, status_figure
from her2d.research.evaluation.participants import set_counts, table_1, table_2

COHORT = [
    cohort_slide("A", "positive", patient="P1", split="train", ihc="3+", Age="40", Gender="male"),
    cohort_slide("B", "negative", patient="P1", split="train", ihc="2+", Age="50", Gender="male"),
    cohort_slide("C", "positive", split="test", ihc="2+", Age="60", Gender=""),
    cohort_slide("D", "negative", split="external", ihc="1+", Age="70", Gender="female"),
    cohort_slide("E", "indeterminate", split="external", Age="", Gender="female"),
]


def levels(table, feature: str) -> dict[str, dict[str, int]]:
    return {row.level: row.slides for row in table.levels if row.feature == feature}


def test_each_split_is_counted_in_slides_and_patients():
    train, test, external = set_counts(COHORT)
    assert (train.set, train.slides, train.patients) == ("train", 2, 1)
    assert (test.positive, test.negative) == (1, 0)
    assert (external.negative, external.without_tumor) == (1, 1)


def test_ihc_2_is_counted_by_what_fish_said():
    train, test, external = set_counts(COHORT)
    assert train.by_ihc == {"2+, FISH negative": 1, "3+": 1}
    assert test.by_ihc == {"2+, FISH positive": 1}
    assert external.by_ihc == {"1+": 1, "not done": 1}


def test_figure_s1_counts_the_slides_that_have_an_ihc_score_and_no_others():
    drawn = status_figure(set_counts(COHORT))
    texts = re.findall("<!-- (.*?) -->", drawn)
    assert texts.count("4 slides") == 1
    assert {"IHC 0: 0", "IHC 1+: 1", "IHC 2+: 2", "IHC 3+: 1"} <= set(texts)
    assert "without tumour: 1" in texts


def test_figure_1_gives_the_shares_of_table_1():
    drawn = participants_figure(set_counts(COHORT), [])
    texts = re.findall("<!-- (.*?) -->", drawn)
    assert {"1 positive (50.0 %)", "1 positive (100.0 %)", "0 positive (0.0 %)"} <= set(texts)


def test_table_1_sets_the_internal_slides_beside_the_external_ones():
    table = table_1(COHORT)
    assert table.slides == {"internal": 3, "external": 2}
    assert table.patients == {"internal": 2, "external": 2}
    assert levels(table, "HER2 status")["positive"] == {"internal": 2, "external": 0}
    assert levels(table, "HER2 status")["without tumour"] == {"internal": 0, "external": 1}


def test_table_1_gives_the_mean_age_of_slides_with_an_age():
    (age,) = table_1(COHORT).means
    assert age.feature == "Age"
    assert age.groups["internal"].text == "50.000 ± 10.000"
    assert age.groups["external"].slides == 1


def test_columns_are_found_whatever_their_case_and_missing_values_are_a_row():
    assert levels(table_1(COHORT), "Gender") == {
        "female": {"internal": 0, "external": 2},
        "male": {"internal": 2, "external": 0},
        "not known": {"internal": 1, "external": 0},
    }


def test_table_2_gives_every_other_column_and_differentiation():
    slides = [
        cohort_slide("A", split="train", differentiation="poor", mucin="present", sex="male"),
        cohort_slide("B", split="integrator", differentiation="well", mucin="absent", sex="male"),
        cohort_slide("C", split="test", differentiation="poor", mucin="absent", sex="female"),
    ]
    table = table_2(slides)
    assert table.slides == {"training": 2, "test": 1}
    assert {row.feature for row in table.levels} == {"differentiation", "mucin"}
    assert levels(table, "mucin")["present"] == {"training": 1, "test": 0}


def test_table_2_gives_the_mean_of_numbers_and_says_what_it_leaves_out():
    slides = [
        cohort_slide(f"S{n}", split="test", ki67=str(10 * n), block=f"B{n}", empty="")
        for n in range(7)
    ]
    table = table_2(slides)
    (row,) = table.means
    assert row.groups["test"].mean == pytest.approx(30)
    assert table.left_out == ("block has 7 levels.", "empty has no values.")


def test_a_cohort_without_further_columns_has_its_status_and_ihc_only():
    table = table_1([cohort_slide("A", ihc="1+")])
    assert {row.feature for row in table.levels} == {"HER2 status", "IHC score"}
    assert table.means == ()


def test_many_centres_are_shown_and_too_many_are_said_to_be_left_out():
    def centers(number: int):
        return table_1([cohort_slide(f"S{n}", centre=f"C{n}") for n in range(number)])

    assert len(levels(centers(12), "centre")) == 12
    assert levels(centers(13), "centre") == {}
    assert centers(13).left_out == ("centre has 13 levels.",)
