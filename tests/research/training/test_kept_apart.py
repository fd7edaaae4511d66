"""Slides kept apart from the folds, for the integrator, its tile cut and the interval of P."""

from pathlib import Path

import pytest

from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.kept_apart import choose_patients, keep_apart
from her2d.research.training.recipe import IntegratorRecipe, Recipe
from her2d.research.training.study import Study, StudyError


def slide(name: str, patient: str, status: str, split: Split = Split.TRAIN) -> CohortSlide:
    return CohortSlide(
        name=name,
        patient=patient,
        he_path=Path(name),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status(status),
        split=split,
        morphology={},
    )


def cohort(positive: int, negative: int) -> list[CohortSlide]:
    """Patients with two slides each, and as many test patients."""
    statuses = ["positive"] * positive + ["negative"] * negative
    return [
        slide(f"{split.value}-{patient}-{number}", f"{split.value}-{patient}", status, split)
        for split in (Split.TRAIN, Split.TEST)
        for patient, status in enumerate(statuses)
        for number in range(2)
    ]


@pytest.fixture
def study(tmp_path) -> Study:
    found = Study(tmp_path)
    found.write_cohort(cohort(20, 60))
    return found


def of_split(study: Study, split: Split) -> list[CohortSlide]:
    return [one for one in study.cohort() if one.split is split]


def test_by_default_15_percent_of_the_patients_of_each_status_are_kept_apart(study):
    keep_apart(study, Recipe())
    kept = of_split(study, Split.INTEGRATOR)
    positive = {one.patient for one in kept if one.her2_status == "positive"}
    negative = {one.patient for one in kept if one.her2_status == "negative"}
    assert (len(positive), len(negative)) == (3, 9)
    assert len(kept) == 2 * 12


def test_a_patient_is_kept_apart_with_every_slide_and_no_test_slide_is_touched(study):
    keep_apart(study, Recipe())
    kept = {one.patient for one in of_split(study, Split.INTEGRATOR)}
    assert not kept & {one.patient for one in of_split(study, Split.TRAIN)}
    assert len(of_split(study, Split.TEST)) == 160


def test_the_seed_decides_and_not_the_order_of_the_table():
    slides = cohort(20, 60)
    chosen = choose_patients(slides, 0.15, 3)
    assert choose_patients(slides[::-1], 0.15, 3) == chosen
    assert choose_patients(slides, 0.15, 4) != chosen


def test_of_few_patients_two_of_each_status_are_kept_apart():
    chosen = choose_patients(cohort(7, 8), 0.15, 1)
    positive = {f"train-{patient}" for patient in range(7)}
    assert (len(positive & set(chosen)), len(chosen)) == (2, 4)


def test_a_patient_with_a_positive_and_a_negative_slide_counts_once_as_positive():
    slides = [*cohort(7, 8), slide("more", "train-0", "negative")]
    assert choose_patients(slides, 0.15, 0) == choose_patients(slides[:-1], 0.15, 0)


def test_a_patient_without_tumour_is_not_chosen():
    benign = [slide(f"B{n}", f"B{n}", "indeterminate") for n in range(100)]
    assert not {one.patient for one in benign} & set(
        choose_patients([*cohort(7, 8), *benign], 0.3, 0)
    )


def test_too_few_patients_are_refused_with_both_ways_out():
    with pytest.raises(StudyError, match="6 positive training patients are too few to keep 2"):
        choose_patients(cohort(6, 60), 0.15, 0)
    with pytest.raises(StudyError, match=r"Add patients, or set integrator.kept_apart=0"):
        choose_patients(cohort(60, 6), 0.15, 0)


def test_preparing_again_does_not_lose_the_choice(study):
    keep_apart(study, Recipe())
    kept = of_split(study, Split.INTEGRATOR)
    study.write_cohort([*cohort(20, 60), slide("new", "new", "negative", Split.EXTERNAL)])
    keep_apart(study, Recipe())
    assert of_split(study, Split.INTEGRATOR) == kept


def test_slides_that_the_table_names_for_it_are_used_instead(study):
    named = slide("own", "own", "positive", Split.INTEGRATOR)
    study.write_cohort([*cohort(20, 60), named])
    keep_apart(study, Recipe())
    assert of_split(study, Split.INTEGRATOR) == [named]


def test_out_of_fold_predictions_are_an_explicit_choice(study):
    keep_apart(study, Recipe(integrator=IntegratorRecipe(kept_apart=0)))
    assert of_split(study, Split.INTEGRATOR) == []
    assert len(of_split(study, Split.TRAIN)) == 160


def test_another_seed_or_share_than_the_saved_one_is_refused(study):
    keep_apart(study, Recipe(seed=1))
    for other in (Recipe(seed=2), Recipe(seed=1, integrator=IntegratorRecipe(kept_apart=0))):
        with pytest.raises(StudyError, match=r"was made with seed 1 and a share of 0\.15"):
            keep_apart(study, other)


def test_slides_are_not_taken_from_folds_that_networks_learned_from(study):
    study.folds.write_text("{}")
    with pytest.raises(StudyError, match="made when no slides were kept apart"):
        keep_apart(study, Recipe())


def test_a_damaged_choice_is_not_taken_for_none(study):
    keep_apart(study, Recipe())
    study.kept_apart.write_text("{")
    with pytest.raises(StudyError, match="is not valid"):
        study.cohort()
