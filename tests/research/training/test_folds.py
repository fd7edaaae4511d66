"""Five folds, stratified by status and grouped by patient."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.method import FOLDS
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.folds import FoldsError, Grouping, assign_folds, load_or_make_folds


def cohort(patients: int, positive_every: int, slides_each: int) -> list[CohortSlide]:
    return [
        CohortSlide(
            name=f"{patient}-{n}",
            patient=f"P{patient}",
            he_path=Path(),
            ihc_path=None,
            annotation_path=Path(),
            her2_status=Status.NEGATIVE if patient % positive_every else Status.POSITIVE,
            split=Split.TRAIN,
            morphology={},
        )
        for patient in range(patients)
        for n in range(slides_each)
    ]


@given(st.integers(20, 60), st.integers(1, 3), st.integers(0, 100))
def test_no_patient_is_on_both_sides(patients, slides_each, seed):
    slides = cohort(patients, 3, slides_each)
    fold = assign_folds(slides, seed)
    assert set(fold) == set(range(FOLDS))
    for patient in {slide.patient for slide in slides}:
        assert len({f for s, f in zip(slides, fold, strict=True) if s.patient == patient}) == 1


def test_each_fold_has_the_cohorts_share_of_positives():
    slides = cohort(100, 5, 1)
    fold = assign_folds(slides, 0)
    positive = np.array([slide.her2_status == "positive" for slide in slides])
    assert [int(positive[fold == number].sum()) for number in range(FOLDS)] == [4] * FOLDS


def test_too_few_slides_of_a_status_are_refused():
    with pytest.raises(ValueError, match="n_splits"):
        assign_folds(cohort(4, 2, 1), 0)


def test_as_in_the_paper_slides_of_a_patient_may_be_in_two_folds(tmp_path):
    slides = cohort(20, 3, 3)
    fold = load_or_make_folds(tmp_path / "folds.json", slides, seed=0, grouping=Grouping.SLIDE)
    parted = {s.patient for s, f in zip(slides, fold, strict=True) if f != fold[0]}
    assert len(parted & {s.patient for s, f in zip(slides, fold, strict=True) if f == fold[0]}) > 0


def test_folds_are_saved_and_reused(tmp_path):
    slides = cohort(20, 3, 1)
    path = tmp_path / "folds.json"
    made = load_or_make_folds(path, slides, seed=0, grouping=Grouping.PATIENT)
    again = load_or_make_folds(path, slides[::-1], seed=0, grouping=Grouping.PATIENT)
    assert np.array_equal(made, again[::-1])


def test_saved_folds_of_another_cohort_or_seed_are_refused(tmp_path):
    path = tmp_path / "folds.json"
    load_or_make_folds(path, cohort(20, 3, 1), seed=0, grouping=Grouping.PATIENT)
    with pytest.raises(FoldsError, match="other slides"):
        load_or_make_folds(path, cohort(21, 3, 1), seed=0, grouping=Grouping.PATIENT)
    with pytest.raises(FoldsError, match="seed 0"):
        load_or_make_folds(path, cohort(20, 3, 1), seed=1, grouping=Grouping.PATIENT)


def test_saved_folds_that_separate_a_patients_slides_are_refused(tmp_path):
    path, slides = tmp_path / "folds.json", cohort(20, 3, 1)
    fold = load_or_make_folds(path, slides, seed=0, grouping=Grouping.PATIENT)
    apart = int(np.flatnonzero(fold != fold[0])[0])
    slides[apart] = slides[apart].model_copy(update={"patient": slides[0].patient})
    with pytest.raises(FoldsError, match="of patient P0 in two folds"):
        load_or_make_folds(path, slides, seed=0, grouping=Grouping.PATIENT)


def test_saved_folds_of_another_status_are_refused(tmp_path):
    path, slides = tmp_path / "folds.json", cohort(20, 3, 1)
    load_or_make_folds(path, slides, seed=0, grouping=Grouping.PATIENT)
    slides[0] = slides[0].model_copy(update={"her2_status": Status.NEGATIVE})
    with pytest.raises(FoldsError, match="when 0-0 was positive; it is negative now"):
        load_or_make_folds(path, slides, seed=0, grouping=Grouping.PATIENT)
