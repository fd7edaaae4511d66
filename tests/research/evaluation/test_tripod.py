"""The TRIPOD+AI checklist: what the study answers, and what it leaves to the authors."""

import re

import pytest
from cohort_slides import cohort_slide, prediction_of, slides_with

from her2d.research.evaluation.html import render
from her2d.research.evaluation.participants import set_counts, table_1, table_2
from her2d.research.evaluation.report import Report, TripodRow
from her2d.research.evaluation.report_figures import ReportFigures
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, slide_rows
from her2d.research.evaluation.subgroups import SubgroupRow, subgroup_rows
from her2d.research.evaluation.tripod import TO_BE_COMPLETED, Reason, tripod_rows
from her2d.research.evaluation.tripod_items import CHECKLIST
from her2d.research.training.recipe import Recipe

# As in the statement's Table 2 (Collins et al. 2024, BMJ 385, e078378), in its order.
SECTIONS = {
    "Title": "1",
    "Abstract": "2",
    "Introduction": "3a 3b 3c 4",
    "Methods": "5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11"
    " 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17",
    "Open science": "18a 18b 18c 18d 18e 18f",
    "Patient and public involvement": "19",
    "Results": "20a 20b 20c 21 22 23a 23b 24",
    "Discussion": "25 26 27a 27b 27c",
}
TOPICS = {
    "Title": "1",
    "Abstract": "2",
    "Background": "3a 3b 3c",
    "Objectives": "4",
    "Data": "5a 5b",
    "Participants": "6a 6b 6c 20a 20b 20c",
    "Data preparation": "7",
    "Outcome": "8a 8b 8c",
    "Predictors": "9a 9b 9c",
    "Sample size": "10",
    "Missing data": "11",
    "Analytical methods": "12a 12b 12c 12d 12e 12f 12g",
    "Class imbalance": "13",
    "Fairness": "14",
    "Model output": "15",
    "Training versus evaluation": "16",
    "Ethical approval": "17",
    "Funding": "18a",
    "Conflicts of interest": "18b",
    "Protocol": "18c",
    "Registration": "18d",
    "Data sharing": "18e",
    "Code sharing": "18f",
    "Patient and public involvement": "19",
    "Model development": "21",
    "Model specification": "22",
    "Model performance": "23a 23b",
    "Model updating": "24",
    "Interpretation": "25",
    "Limitations": "26",
    "Usability of the model in the context of current care": "27a 27b 27c",
}
ONLY_DEVELOPMENT = {"9a", "12a", "12b", "12c", "15", "22", "27a", "27b"}
ONLY_EVALUATION = {"12f", "12g", "20c", "24"}

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


def filled(recipe: Recipe | None = None, **changes) -> dict[str, TripodRow]:
    return {row.item: row for row in tripod_rows(report(**changes), recipe or Recipe())}


def of_centers(*centers: tuple[str, str]) -> tuple[SubgroupRow, ...]:
    """Return the subgroups of a slide in each of these splits and centres."""
    slides = [
        cohort_slide(f"S{number}", split=split, centre=centre)
        for number, (split, centre) in enumerate(centers)
    ]
    return subgroup_rows([(slide, prediction_of(slide, 1.0)) for slide in slides])


@pytest.fixture(scope="module")
def rows() -> dict[str, TripodRow]:
    return filled()


def test_the_parts_and_their_sections_are_those_of_the_statement(rows):
    items = [(part.section, part.item) for part in CHECKLIST]
    assert items == [(section, item) for section, of in SECTIONS.items() for item in of.split()]
    assert [row.item for row in rows.values()] == [item for _, item in items]
    assert len(items) == 52
    assert {int(re.match(r"\d+", item)[0]) for _, item in items} == set(range(1, 28))


def test_the_topics_are_those_of_the_statement(rows):
    expected = {item: topic for topic, of in TOPICS.items() for item in of.split()}
    assert {item: row.topic for item, row in rows.items()} == expected


def test_the_letters_are_those_of_the_statement(rows):
    assert {item for item, row in rows.items() if row.applies == "D"} == ONLY_DEVELOPMENT
    assert {item for item, row in rows.items() if row.applies == "E"} == ONLY_EVALUATION
    assert {row.applies for row in rows.values()} == {"D", "E", "D;E"}


def test_each_part_is_answered_or_says_what_is_missing_and_why(rows):
    reasons = "|".join(re.escape(reason) for reason in Reason)
    for row in rows.values():
        gap = re.search(rf"(?:^|\. )({reasons}): \S", row.answer)
        assert (gap is not None) == (row.status != "from the study"), row.item
        assert row.answer.endswith(f"{TO_BE_COMPLETED}.") == (gap is not None), row.item
        assert row.answer.endswith("."), row.item


def test_a_part_is_left_to_the_authors_only_if_the_study_reports_nothing_of_it(rows):
    for row in rows.values():
        begins_with_gap = row.answer.startswith(tuple(f"{reason}: " for reason in Reason))
        assert begins_with_gap == (row.status == "by the authors"), row.item


def test_what_an_answer_points_to_is_on_the_page(rows):
    page = render(report(), ReportFigures())
    headings = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", page)
    shown = {
        f"{kind} {number}"
        for heading in headings
        for kind, numbers in re.findall(r"^(Table|Figure)s? ([^.]*)\.", heading)
        for number in re.findall(r"S?\d", numbers)
    }
    named = {
        f"{kind} {number}"
        for row in rows.values()
        for kind, numbers in re.findall(
            r"(Table|Figure)s? ((?:S?\d)(?:(?: to |, | and )S?\d)*)", row.answer
        )
        for number in re.findall(r"S?\d", numbers)
    }
    assert named
    assert named <= shown
    assert {"Subgroups", "Patients", "Use before IHC"} <= set(headings)


def test_what_no_file_of_a_study_knows_is_left_to_the_authors(rows):
    authors = "2 3c 5b 6b 6c 8b 8c 17 18a 18b 18c 18d 18e 19 25 27c"
    for item in authors.split():
        assert rows[item].status == "by the authors", item


def test_what_the_study_knows_is_filled_in_from_it(rows):
    assert "segnet, five resnet50 and rf" in rows["12c"].answer
    assert "0123456789ab" in rows["12g"].answer
    assert "Networks and integrator (train): 1 slide of 1 patient, 1 pos" in rows["21"].answer
    assert "test: 1 slide of 1 patient, 0 positive, 1 negative." in rows["20a"].answer
    assert "2 centres (Table 1): Beijing, Foshan." in rows["6a"].answer
    assert "A call needs 1 tumour tile." in rows["15"].answer


def test_a_cohort_without_centres_leaves_them_to_the_authors():
    found = filled(table_1=table_1([cohort_slide("A")]))
    assert found["6a"].status == "by the authors"
    assert f"{Reason.NOT_IN_TABLE}: a column of centres" in found["6a"].answer


def test_a_column_is_found_by_each_name_that_table_1_finds_it_by():
    slides = [cohort_slide("A", **{"Scanner Model": "Motic"})]
    found = filled(table_1=table_1(slides))
    assert "Scanners (Table 1): Motic." in found["9b"].answer
    assert "files: stains, and when" in found["9b"].answer


def test_scanners_that_the_cohort_table_does_not_have_are_missing(rows):
    assert "files: scanners, stains, and when" in rows["9b"].answer


@pytest.mark.parametrize("item", ["12d", "23b"])
def test_one_centre_in_two_sets_has_no_heterogeneity(item):
    one = filled(subgroups=of_centers(("test", "Foshan"), ("external", "Foshan")))
    assert f"{Reason.NOT_IN_TABLE}: two centres" in one[item].answer
    two = filled(subgroups=of_centers(("test", "Foshan"), ("external", "Beijing")))
    assert "by centre" in two[item].answer
    assert "two centres" not in two[item].answer


def test_age_and_sex_are_said_to_be_missing_where_the_cohort_does_not_have_them(rows):
    for item in ("14", "20b", "20c"):
        assert re.search(rf"{Reason.NOT_IN_TABLE}: (age and sex|sex and age)", rows[item].answer)
    slides = [cohort_slide("A", sex="male", age="61"), cohort_slide("B", sex="male", age="62")]
    found = filled(
        table_1=table_1(slides), subgroups=subgroup_rows([(s, prediction_of(s, 1)) for s in slides])
    )
    for item in ("14", "20b", "20c"):
        assert Reason.NOT_IN_TABLE not in found[item].answer, item
    assert "Performance is given by sex and age" in found["14"].answer


def test_without_a_called_slide_there_is_no_performance(rows):
    assert rows["23a"].status == "by the authors"
    assert "Not in" in rows["23a"].answer


def test_performance_is_that_of_the_bundle_with_intervals():
    calls = [("positive", "positive")] * 9 + [("positive", "negative"), ("negative", "negative")]
    predictions = [
        IntegratorPrediction("test", f"P{n}", true, predicted, 0.3 if predicted[0] == "p" else 0.0)
        for n, (true, predicted) in enumerate(calls)
    ]
    slides = slide_rows({"rf": predictions, "lr": predictions[:10]}, "rf")
    found = filled(slides=slides)
    assert "test: accuracy 0.909 (" in found["23a"].answer
    assert "sensitivity 0.900 (" in found["23a"].answer
    assert found["23a"].answer.count("accuracy") == 1
    assert "slides with a call: 11 of test." in found["21"].answer


def test_missing_values_and_small_subgroups_are_named():
    slides = [
        (slide.model_copy(update={"morphology": {"sex": sex, "age": age}}), prediction)
        for (slide, prediction), sex, age in zip(
            slides_with([1.0, 2.0, 3.0], "negative", "N"),
            ("male", "", "male"),
            ("61", "", "62"),
            strict=True,
        )
    ]
    made = [slide for slide, _ in slides]
    found = filled(table_1=table_1(made), subgroups=subgroup_rows(slides))
    assert "Values are missing in: age, sex." in found["11"].answer
    assert "2 of 2 subgroups are small." in found["26"].answer


def test_complete_columns_are_not_said_to_lack_values(rows):
    assert "Values are missing" not in rows["11"].answer


def test_class_imbalance_is_described_as_the_recipe_has_it(rows):
    assert rows["13"].status == "from the study"
    assert rows["13"].answer.startswith("No method was used.")
    recipe = Recipe.model_validate({"classifier": {"sampling": "balanced"}})
    found = filled(recipe)
    assert "classifiers from tiles of both classes equally often" in found["13"].answer
    assert "No method" not in found["13"].answer
    assert found["13"].status == "in part"


def test_augmentation_is_described_as_the_recipe_has_it(rows):
    assert "changes of stain (up to 15 % for the segmenter, up to 15 %" in rows["12b"].answer
    assert "crops" not in rows["12b"].answer
    recipe = Recipe.model_validate(
        {"segmenter": {"stain_jitter": 0, "crop": 192}, "classifier": {"stain_jitter": 0}}
    )
    answer = filled(recipe)["12b"].answer
    assert "stain" not in answer
    assert "random crops (192 x 192 pixels for the segmenter)" in answer


@pytest.mark.parametrize(
    ("overridden", "said"),
    [
        ((), "Selected on validation slides: segmenter, classifier and integrator. Networks"),
        (
            ("integrator",),
            "Selected on validation slides: segmenter and classifier. Selected by the user:"
            " integrator. Networks",
        ),
        (
            ("segmenter", "classifier", "integrator"),
            "(Tables S1 to S3). Selected by the user: segmenter, classifier and integrator.",
        ),
    ],
)
def test_a_model_that_the_user_chose_is_not_said_to_be_selected_on_validation_slides(
    overridden, said
):
    assert said in filled(overridden=overridden)["12c"].answer
    page = render(report(overridden=overridden), ReportFigures())
    assert ("selected on validation slides" in page) == (len(overridden) < 3)


def test_a_study_without_external_slides_says_so(rows):
    assert "No slide is of the split external." in rows["26"].answer
    external = [*COHORT, cohort_slide("C", split="external")]
    assert "external" not in filled(sets=set_counts(external))["26"].answer
