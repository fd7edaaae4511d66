"""Calibrate a candidate's interval of P on the slides that were kept apart from training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Interval
from her2d.pipeline.conformal import evidence_of_doubt
from her2d.pipeline.interval import TumorTiles
from her2d.pipeline.scoring import Her2Status
from her2d.research.evaluation.annotated_share import AnnotatedShare, annotated_shares
from her2d.research.evaluation.conformal import CalibrationSlide, fewest_patients, fit_interval
from her2d.research.evaluation.slide_predictions import predict_slides
from her2d.research.evaluation.tiles import load_model, predict_strong
from her2d.research.training.bundle_writer import write_manifest
from her2d.research.training.cohort import CohortSlide, Split
from her2d.research.training.integrators import held_out_models
from her2d.research.training.model_selection import read_selection
from her2d.research.training.out_of_fold import split_probabilities
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study


@dataclass(frozen=True, slots=True)
class IntervalCalibration:
    """A candidate with its calibration, if there could be one.

    Attributes:
        bundle: the candidate.
        note: a sentence that says on what the interval is calibrated, or why it is not.
    """

    bundle: Bundle
    note: str


@dataclass(frozen=True, slots=True)
class HeldOutModels:
    """An integrator, fitted on all patients and without each group of them.

    Attributes:
        of_all: The model that the bundle has.
        without: Groups of patients and the model that did not learn from them.
    """

    of_all: Any
    without: tuple[tuple[frozenset[str], Any], ...]

    def integrated(self, patient: str, tiles: TumorTiles, tile_cut: float) -> TumorTiles:
        """Return a patient's tiles as a model calls them that did not learn from them."""
        # The model of all did not learn from a patient without a labelled tile.
        model = next((model for group, model in self.without if patient in group), self.of_all)
        p = predict_strong(model, tiles.p_folds.astype(np.float32))
        return replace(tiles, p_strong=p, strong=p > tile_cut)


def calibrate_interval(
    study: Study,
    recipe: Recipe,
    bundle: Bundle,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> IntervalCalibration:
    """Calibrate the candidate's interval of P, and write it to the candidate's manifest.

    The slides that were kept apart run through the bundle's pipeline, with an integrator that did
    not learn from their patient, and P is compared with the annotated share by area.

    Args:
        study: Study with selected models.
        recipe: The study's recipe.
        bundle: The study's candidate, not calibrated.
        progress: Called with a description of each step.

    Raises:
        StudyError, FitError: A slide or network is missing.
        SlideError: A slide cannot be read.
        OSError: The manifest cannot be written.
    """
    apart = [slide for slide in study.cohort() if slide.split is Split.INTEGRATOR]
    patients = {slide.patient for slide in apart}
    if len(patients) < fewest_patients():
        return IntervalCalibration(bundle, _too_few(len(patients), "slides that were kept apart"))
    models = _held_out_models(study, recipe)
    slides = calibration_slides(bundle, apart, annotated_shares(study, apart), models, progress)
    patients = {slide.patient for slide in slides}
    if len(patients) < fewest_patients():
        return IntervalCalibration(bundle, _too_few(len(patients), "slides with a known share"))
    interval = fit_interval(slides, seed=recipe.seed)
    return IntervalCalibration(
        _with_interval(bundle, interval),
        f"The interval of P is calibrated on {interval.slides} slides of {interval.patients}"
        " patients that were kept apart.",
    )


def _too_few(patients: int, which: str) -> str:
    return (
        f"The interval of P is not calibrated: that needs {which} of {fewest_patients()} patients,"
        f" and there are {patients}."
    )


def _with_interval(bundle: Bundle, interval: Interval) -> Bundle:
    write_manifest(bundle.directory, bundle.manifest.model_copy(update={"interval": interval}))
    return load_bundle(bundle.directory)


def calibration_slides(
    bundle: Bundle,
    slides: Sequence[CohortSlide],
    annotated: Mapping[str, AnnotatedShare],
    models: HeldOutModels,
    progress: Callable[[str], None] = lambda _: None,
) -> list[CalibrationSlide]:
    """Score slides as the daemon does, with an integrator that did not learn from their patient.

    Slides of which the annotated share is not known are left out, and those without a call.

    Args:
        bundle: The candidate.
        slides: Slides that no network learned from.
        annotated: Annotated shares by name.
        models: The integrator.
        progress: Called with a description of each step.

    Raises:
        SlideError: A slide cannot be read.
    """
    cut = bundle.manifest.decision.tile_cut
    found = []
    for predicted in predict_slides(bundle, [s for s in slides if s.name in annotated]):
        slide, score = predicted.slide, predicted.outcome.score
        progress(f"calibrating on {slide.name}")
        if score.her2_status is Her2Status.INDETERMINATE:
            continue
        tiles = models.integrated(slide.patient, predicted.outcome.tumor_tiles, cut)
        evidence = evidence_of_doubt(tiles, cut)
        by_area = annotated[slide.name].by_area
        found.append(CalibrationSlide(slide.patient, tiles.share, by_area, evidence))
    return found


def _held_out_models(study: Study, recipe: Recipe) -> HeldOutModels:
    selection, scores = read_selection(study)
    score = next(score for score in scores if score.name == selection.integrator)
    without = held_out_models(
        score,
        split_probabilities(study, selection.classifier, Split.INTEGRATOR),
        seed=recipe.seed,
        folds=recipe.integrator.folds,
        class_weight=recipe.integrator.class_weight,
    )
    return HeldOutModels(load_model(study, selection.integrator), tuple(without))
