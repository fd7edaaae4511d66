"""Score slides that were kept apart, with integrators that did not learn from their patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import Decision
from her2d.pipeline.interval import TumorTiles
from her2d.pipeline.scoring import Her2Status
from her2d.research.evaluation.annotated_share import AnnotatedShare, annotated_shares
from her2d.research.evaluation.reflex_testing import HeldOutCalls
from her2d.research.evaluation.slide_predictions import predict_slides
from her2d.research.evaluation.tiles import load_model, predict_strong
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.integrators import held_out_models
from her2d.research.training.model_selection import read_selection
from her2d.research.training.out_of_fold import split_probabilities
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study


@dataclass(frozen=True, slots=True)
class HeldOutSlide:
    """A slide that no model learned from, with its annotated share.

    Attributes:
        patient: its patient.
        is_positive: its true HER2 status.
        tiles: its tumour tiles, as an integrator calls them that did not learn from the patient.
        annotated: annotated share of HER2-high tumour, 0 to 1.
        pixel_mm2: area of a pixel.
    """

    patient: str
    is_positive: bool
    tiles: TumorTiles
    annotated: float
    pixel_mm2: float

    @property
    def tile_mm2(self) -> NDArray[np.float64]:
        """Area of the tumour in each tile, float64 (T,)."""
        return np.asarray(self.tiles.tumor_pixels * self.pixel_mm2)


@dataclass(frozen=True, slots=True)
class FalseTumor:
    """The tumour that was found on a slide without tumour, which no model learned from.

    Attributes:
        patient: its patient.
        mm2: area of the tumour in tumour tiles.
    """

    patient: str
    mm2: float


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


def score_held_out(
    study: Study,
    recipe: Recipe,
    bundle: Bundle,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> list[HeldOutSlide]:
    """Run the slides that were kept apart through the bundle's pipeline.

    Args:
        study: Study with selected models.
        recipe: The study's recipe.
        bundle: The study's candidate, without what is measured on these slides.
        progress: Called with a description of each step.

    Returns:
        The slides with a call and an annotated share; none if none were kept apart.

    Raises:
        StudyError, FitError: A slide or network is missing.
        SlideError: A slide cannot be read.
    """
    apart = [slide for slide in study.cohort() if slide.split is Split.INTEGRATOR]
    if not apart:
        return []
    models = _held_out_models(study, recipe)
    return held_out_slides(bundle, apart, annotated_shares(study, apart), models, progress)


def find_false_tumor(
    study: Study, bundle: Bundle, *, progress: Callable[[str], None] = lambda _: None
) -> list[FalseTumor]:
    """Run the slides that were kept apart and have no tumour through the bundle's pipeline.

    Args:
        study: Study with selected models.
        bundle: The study's candidate.
        progress: Called with a description of each step.

    Raises:
        SlideError: A slide cannot be read.
    """
    benign = [
        slide
        for slide in study.cohort()
        if slide.split is Split.INTEGRATOR and slide.her2_status is Status.INDETERMINATE
    ]
    found = []
    for predicted in predict_slides(bundle, benign) if benign else ():
        progress(f"looking for tumour on {predicted.slide.name}, which has none")
        outcome = predicted.outcome
        mm2 = outcome.score.tumor_pixels * outcome.grid.pixel_mm2
        found.append(FalseTumor(predicted.slide.patient, mm2))
    return found


def held_out_slides(
    bundle: Bundle,
    slides: Sequence[CohortSlide],
    annotated: Mapping[str, AnnotatedShare],
    models: HeldOutModels,
    progress: Callable[[str], None] = lambda _: None,
) -> list[HeldOutSlide]:
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
        slide, outcome = predicted.slide, predicted.outcome
        progress(f"calibrating on {slide.name}")
        if outcome.score.her2_status is Her2Status.INDETERMINATE:
            continue
        tiles = models.integrated(slide.patient, outcome.tumor_tiles, cut)
        share = annotated[slide.name].by_area
        is_positive = slide.her2_status is Status.POSITIVE
        pixel_mm2 = outcome.grid.pixel_mm2
        found.append(HeldOutSlide(slide.patient, is_positive, tiles, share, pixel_mm2))
    return found


def held_out_calls(slides: Sequence[HeldOutSlide], decision: Decision) -> HeldOutCalls:
    """Return P and the true status of the slides that have enough tumour for a call.

    Args:
        slides: Slides that no model learned from.
        decision: The bundle's rules, with its least tumour.
    """
    called = [
        slide
        for slide in slides
        if len(slide.tiles) >= decision.min_tumor_tiles
        and slide.tile_mm2.sum() >= decision.min_tumor_mm2
    ]
    return HeldOutCalls(
        np.array([slide.tiles.share for slide in called], np.float64),
        np.array([slide.is_positive for slide in called], bool),
        np.array([slide.patient for slide in called], str),
    )


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
