"""Patients of the training split whose slides are kept apart from the five folds.

The paper fits the integrated classifier on tiles of the training set (section 4.5), of which each
sub-classifier learned from four fifths. her2d keeps slides apart instead: all five sub-classifiers
predict them as they will predict a new slide, so that an integrator sees how much they disagree.
Such slides also decide the tile cut and the interval of P. A cohort table with slides in the split
`integrator` names them itself.
"""

from collections.abc import Sequence

import numpy as np

from her2d.method import FOLDS
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import KeptApart, Study, StudyError, write_text

# One patient of a status to fit an integrator on, and one to measure it on.
_FEWEST = 2


def keep_apart(study: Study, recipe: Recipe) -> None:
    """Choose the patients to keep apart, and save them in the study before anything is trained.

    Afterwards `Study.cohort` has their slides in the split `integrator`. Nothing is chosen if the
    recipe's share is 0 or the cohort table has slides in that split.

    Args:
        study: A prepared study.
        recipe: The study's recipe.

    Raises:
        StudyError: The saved choice is of another seed or share, networks were trained before
            patients were kept apart, or there are too few patients.
        OSError: The choice cannot be written.
    """
    share, seed = recipe.integrator.kept_apart, recipe.seed
    saved = study.read_kept_apart()
    if saved is not None:
        if (saved.share, saved.seed) != (share, seed):
            raise StudyError(
                f"{study.kept_apart} was made with seed {saved.seed} and a share of"
                f" {saved.share:g}. Use the same seed and integrator.kept_apart, or remove it and"
                f" {study.folds.name} and train every network again."
            )
        return
    slides = study.cohort()
    if share == 0 or any(slide.split is Split.INTEGRATOR for slide in slides):
        return
    if study.folds.is_file():
        raise StudyError(
            f"{study.folds} was made when no slides were kept apart for the integrator. Set"
            " integrator.kept_apart=0 to fit it on out-of-fold predictions, or remove the file and"
            " train every network again."
        )
    patients = choose_patients(slides, share, seed)
    kept = KeptApart(seed=seed, share=share, patients=patients)
    write_text(study.kept_apart, kept.model_dump_json(indent=1))


def choose_patients(slides: Sequence[CohortSlide], share: float, seed: int) -> tuple[str, ...]:
    """Choose a share of the training patients, of positive and negative ones alike.

    Patients of whom every slide is without tumour are not chosen; integrators learn from tumour.

    Args:
        slides: The cohort.
        share: Share of the patients of each status, at least two.
        seed: Seed of the choice, which does not depend on the order of the slides.

    Returns:
        Names of patients, sorted.

    Raises:
        StudyError: Fewer than two patients of a status can be kept apart from five folds.
    """
    status: dict[str, Status] = {}
    for slide in slides:
        if slide.split is Split.TRAIN and slide.her2_status is not Status.INDETERMINATE:
            positive = status.get(slide.patient) is Status.POSITIVE
            status[slide.patient] = Status.POSITIVE if positive else slide.her2_status
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    for wanted in (Status.POSITIVE, Status.NEGATIVE):
        patients = sorted(patient for patient, found in status.items() if found is wanted)
        count = max(_FEWEST, round(share * len(patients)))
        if len(patients) - count < FOLDS:
            raise StudyError(
                f"{len(patients)} {wanted} training patients are too few to keep {count} of them"
                f" apart for the integrator and divide the others into {FOLDS} folds. Add"
                " patients, or set integrator.kept_apart=0 to fit it on out-of-fold predictions."
            )
        chosen += rng.permutation(np.array(patients))[:count].tolist()
    return tuple(sorted(chosen))
