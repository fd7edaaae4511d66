"""The TRIPOD+AI checklist: what the study answers, and what it leaves to the authors."""

import re

import pytest
from cohort_slides import cohort_slide, slides_with

from her2d.research.evaluation.participants import set_counts, table_1, table_2
from her2d.research.evaluation.report import Report, TripodRow
from her2d.research.evaluation.subgroups import subgroup_rows
from her2d.research.evaluation.tripod import TO_BE_COMPLETED, tripod_rows
from her2d.research.training.recipe import Recipe

COHORT = [
    cohort_slide("A", "positive", split="train", centre="Foshan"),
    cohort_slide("B", "negative", split="test", centre="Beijing"),
]


def report(**changes) -> Report:
    values = {
        "cohort": "train: 1 slides of 1 patients, 1 positive",
        "code_version": "1.2",
        "seed": 1,
        "bundle_digest": "0123456789ab" + "0" * 52,
        "models": {},
        "segmenter": "segnet",
        "classifier": "resnet50",
        "integrator": "rf",
        "integrator_fitted_on": "held-out slides",
        "overridden": (),
        "interval": "The interval of P is not calibrated.",
        "least_tumor": "A call needs 1 tumour tile.",
        "sets": set_counts(COHORT),
        "table_1": table_1(COHORT),
        "table_2": table_2(COHORT),
        "segmenters": (),
        "classifiers": (),
        "integrators": (),
        "slides": (),
        "predictions": (),
        "validation": (),
        "calibration": (),
        "misdiagnosis": (),
        "misdiagnosis_left_out": (),
    }
    return Report(**(values | changes))


@pytest.fixture(scope="module")
def rows() -> dict[str, TripodRow]:
    return {row.item: row for row in tripod_rows(report(), Recipe())}


def test_the_checklist_has_all_27_items_in_52_parts(rows):
    assert len(rows) == 52
    assert {int(re.match(r"\d+", item)[0]) for item in rows} == set(range(1, 28))


def test_no_part_is_empty_and_each_says_who_answers_it(rows):
    for row in rows.values():
        assert row.answer.endswith("."), row.item
        assert (TO_BE_COMPLETED in row.answer) == (row.status != "from the study"), row.item


def test_what_no_file_of_a_study_knows_is_left_to_the_authors(rows):
    for item in ("2", "3c", "5b", "6b", "8b", "17", "18a", "18b", "18c", "18d", "18e", "19", "25"):
        assert rows[item].status == "by the authors", item
        assert rows[item].answer == f"{TO_BE_COMPLETED}."


def test_what_the_study_knows_is_filled_in_from_it(rows):
    assert "segnet, five resnet50 and rf" in rows["12c"].answer
    assert "0123456789ab" in rows["12g"].answer
    assert "train: 1 slides of 1 patients, 1 positive." in rows["21"].answer
    assert "Centres: Beijing, Foshan." in rows["6a"].answer
    assert "A call needs 1 tumour tile." in rows["15"].answer


def test_a_cohort_without_centres_leaves_them_to_the_authors():
    bare = [cohort_slide("A")]
    found = {row.item: row for row in tripod_rows(report(table_1=table_1(bare)), Recipe())}
    assert found["6a"].status == "by the authors"


def test_missing_values_and_small_subgroups_are_named():
    slides = [
        (slide.model_copy(update={"morphology": {"sex": sex}}), prediction)
        for (slide, prediction), sex in zip(
            slides_with([1.0, 2.0], "negative", "N"), ("male", ""), strict=True
        )
    ]
    made = report(table_1=table_1([slide for slide, _ in slides]), subgroups=subgroup_rows(slides))
    found = {row.item: row for row in tripod_rows(made, Recipe())}
    assert "Values are missing in: sex" in found["11"].answer
    assert "1 of 1 subgroups are small." in found["26"].answer


def test_class_imbalance_is_described_as_the_recipe_has_it():
    recipe = Recipe.model_validate({"classifier": {"sampling": "balanced"}})
    found = {row.item: row for row in tripod_rows(report(), recipe)}
    assert "both classes equally often for classifiers" in found["13"].answer
