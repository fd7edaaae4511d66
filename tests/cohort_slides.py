"""Slides of a cohort and predictions of them, for tests."""

from pathlib import Path

from her2d.research.evaluation.report import SlidePrediction
from her2d.research.training.cohort import CohortSlide, Split, Status


def cohort_slide(
    name: str,
    status: str = "negative",
    *,
    patient: str = "",
    split: str = "test",
    ihc: str = "",
    **morphology: str,
) -> CohortSlide:
    """Make a slide; by default each is of another patient."""
    return CohortSlide(
        name=name,
        patient=patient or name,
        he_path=Path(),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status(status),
        split=Split(split),
        ihc_score=ihc,
        morphology=morphology,
    )


def prediction_of(
    slide: CohortSlide, percent: float | None, *, predicted: str | None = None
) -> SlidePrediction:
    """Make a prediction, called at 10 % unless `predicted` says otherwise."""
    if predicted is None:
        predicted = "indeterminate" if percent is None else "positive"
        if percent is not None and percent < 10:
            predicted = "negative"
    return SlidePrediction(
        name=slide.name,
        patient=slide.patient,
        set=slide.split.value,
        true_status=slide.her2_status.value,
        predicted=predicted,
        percent=percent,
        borderline=False,
        ci_low=None,
        ci_high=None,
        ci_calibrated=None,
        annotated_by_tile=None,
        annotated_by_area=None,
    )


def slides_with(
    percents: list[float | None], status: str, prefix: str
) -> list[tuple[CohortSlide, SlidePrediction]]:
    """Make slides of one status with these P."""
    made = [cohort_slide(f"{prefix}{number}", status) for number in range(len(percents))]
    return [(slide, prediction_of(slide, p)) for slide, p in zip(made, percents, strict=True)]
