"""Five folds, stratified by status and grouped by patient."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.training.folds import FOLDS, fold_of_slides
from her2d.training.tiles import CohortSlide


def cohort(patients: int, positive_every: int, slides_each: int) -> list[CohortSlide]:
    return [
        CohortSlide(
            f"{patient}-{n}",
            f"P{patient}",
            Path(),
            Path(),
            "positive" if patient % positive_every == 0 else "negative",
        )
        for patient in range(patients)
        for n in range(slides_each)
    ]


@given(st.integers(20, 60), st.integers(1, 3), st.integers(0, 100))
def test_no_patient_is_on_both_sides(patients, slides_each, seed):
    slides = cohort(patients, 3, slides_each)
    fold = fold_of_slides(slides, seed)
    assert set(fold) == set(range(FOLDS))
    for patient in {slide.patient for slide in slides}:
        assert len({f for s, f in zip(slides, fold, strict=True) if s.patient == patient}) == 1


def test_each_fold_has_the_cohorts_share_of_positives():
    slides = cohort(100, 5, 1)
    fold = fold_of_slides(slides, 0)
    positive = np.array([slide.her2_status == "positive" for slide in slides])
    assert [int(positive[fold == number].sum()) for number in range(FOLDS)] == [4] * FOLDS


def test_too_few_slides_of_a_status_are_refused():
    with pytest.raises(ValueError, match="n_splits"):
        fold_of_slides(cohort(4, 2, 1), 0)
