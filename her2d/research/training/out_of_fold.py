"""Predictions of the five sub-classifiers on tiles that they did not learn from.

Four of the five sub-classifiers learned from each tile of the five folds; only the prediction of
the fifth, which held the tile out, is unbiased. The integrator is therefore fitted on slides
outside all folds (split `integrator`, see `kept_apart`). If the recipe keeps none apart, it is
fitted on the out-of-fold prediction of each tile, repeated in all five columns. It then never sees
sub-classifiers disagree, and is too cautious where they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from her2d.bundle.manifest import Normalization
from her2d.method import FOLDS
from her2d.research.networks.build import build_classifier
from her2d.research.networks.export import STRONG, Normalized
from her2d.research.training.cohort import CohortSlide, Split
from her2d.research.training.fit import WEIGHTS_FILE, read_result, shared_normalization
from her2d.research.training.gate import gated_as_in_service, gated_by_saved, segmenter_in
from her2d.research.training.leakage import check_leakage
from her2d.research.training.recipe import Recipe
from her2d.research.training.slide_level import SlideTiles
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import TileStore
from her2d.research.training.train import gated_training_tiles, open_tiles, tiles_of_saved_folds

_BATCH = 8


class PredictionSource(StrEnum):
    """The predictions that an integrator was fitted on."""

    HELD_OUT = "held-out slides, predictions of all five folds"
    OUT_OF_FOLD = "out-of-fold predictions, one per tile, repeated five times"


@dataclass(frozen=True, slots=True)
class FoldProbabilities:
    """Predictions for T labelled tumour tiles.

    Attributes:
        p: p(strong) of the five sub-classifiers, float32 (T, 5).
        strong: Whether the tile has high expression, bool (T,).
        patient: The tile's patient, str (T,).
        slide: The tile's slide, str (T,); by default a patient has one slide.
        tumor_pixels: Number of tumour pixels in the tile, int64 (T,); by default all tiles have as
            many.
    """

    p: NDArray[np.float32]
    strong: NDArray[np.bool_]
    patient: NDArray[np.str_]
    slide: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, np.str_))
    tumor_pixels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.slide):
            object.__setattr__(self, "slide", self.patient)
        if not len(self.tumor_pixels):
            object.__setattr__(self, "tumor_pixels", np.ones(len(self.strong), np.int64))

    @property
    def slide_tiles(self) -> SlideTiles:
        """The tiles without their predictions."""
        return SlideTiles(self.slide, self.tumor_pixels, self.strong)


def out_of_fold_predictions(
    study: Study, recipe: Recipe, classifier: str
) -> tuple[FoldProbabilities, PredictionSource]:
    """Predict the tiles that the integrator is fitted on, without leakage.

    Args:
        study: Study with all five folds of the classifier trained.
        recipe: The study's recipe.
        classifier: Name of the classifier.

    Returns:
        The predictions and their source.

    Raises:
        StudyError: A network or slide is missing, or a network learned from other slides.
        FoldsError: The folds do not match the recipe.
        FitError: The networks were trained with different normalisations.
    """
    check_leakage(study, classifiers=[classifier])
    if any(slide.split is Split.INTEGRATOR for slide in study.cohort()):
        held_out_tiles = split_probabilities(study, classifier, Split.INTEGRATOR)
        return held_out_tiles, PredictionSource.HELD_OUT
    tiles = gated_training_tiles(study, recipe)
    networks = load_classifiers(study, classifier)
    normalization = classifiers_normalization(study, classifier)
    p = np.zeros((len(tiles.store), FOLDS), np.float32)
    for fold, network in enumerate(networks):
        held_out = np.flatnonzero(tiles.classified & (tiles.fold == fold))
        p[held_out] = p_strong([network], tiles.store, held_out, normalization)
    labelled = np.flatnonzero(tiles.classified)
    found = _fold_probabilities(p[labelled], tiles.slides, tiles.store, labelled)
    return found, PredictionSource.OUT_OF_FOLD


def fitting_digest(study: Study) -> str:
    """Return the SHA-256, in hex, of the tiles that an integrator would be fitted on now.

    Raises:
        StudyError: A slide is not prepared.
        FoldsError: There are no saved folds, or they are of other slides.
    """
    integrator_slides = [slide for slide in study.cohort() if slide.split is Split.INTEGRATOR]
    if integrator_slides:
        return open_tiles(study, integrator_slides).digest()
    tiles = tiles_of_saved_folds(study)
    gated = replace(tiles, store=gated_by_saved(study, tiles.store))
    return gated.store.digest(gated.classified, gated.fold)


def split_probabilities(study: Study, classifier: str, split: Split) -> FoldProbabilities:
    """Predict the labelled tumour tiles of a split with all five sub-classifiers.

    If the study's tiles are gated by predictions, tumour tiles are those of the bundle's segmenter.

    Args:
        study: Study with all five folds of the classifier trained.
        classifier: Name of the classifier.
        split: Any split but `train`.

    Raises:
        ValueError: The split is `train`, which the sub-classifiers learned from.
        StudyError, FitError: A network or slide is missing.
    """
    if split is Split.TRAIN:
        raise ValueError("the sub-classifiers learned from the split train")
    slides = [slide for slide in study.cohort() if slide.split is split]
    store = gated_as_in_service(study, open_tiles(study, slides))
    labelled = np.flatnonzero(store.table.is_tumor & store.table.labelled)
    normalization = classifiers_normalization(study, classifier)
    p = p_strong(load_classifiers(study, classifier), store, labelled, normalization)
    return _fold_probabilities(p, slides, store, labelled)


def _fold_probabilities(
    p: NDArray[np.float32],
    slides: Sequence[CohortSlide],
    store: TileStore,
    indices: NDArray[np.int64],
) -> FoldProbabilities:
    """Join predictions for the tiles at `indices` with their labels."""
    table = store.table
    patients = np.array([slide.patient for slide in slides] or [""])
    names = np.array(store.names or ("",))
    of_slide = table.slide[indices]
    return FoldProbabilities(
        p,
        table.strong[indices],
        patients[of_slide],
        names[of_slide],
        table.gate_pixels[indices],
    )


def p_strong(
    networks: Sequence[nn.Module],
    store: TileStore,
    indices: NDArray[np.int64],
    normalization: Normalization,
) -> NDArray[np.float32]:
    """Predict p(strong) of tiles, on a GPU if there is one.

    Args:
        networks: Classifiers; each maps float32 (N, 3, 512, 512) to logits (N, 2).
        store: The tiles.
        indices: Indices of T tiles in the store, int64 (T,).
        normalization: Normalisation that the networks were trained with.

    Returns:
        Probabilities, float32 (T, len(networks)).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalized = Normalized(normalization.mean, normalization.std).to(device)
    found = np.empty((len(indices), len(networks)), np.float32)
    for network in networks:
        network.to(device).eval()
    with torch.inference_mode():
        for start in range(0, len(indices), _BATCH):
            pixels = np.stack([store.pixels(int(i)) for i in indices[start : start + _BATCH]])
            x = normalized(torch.from_numpy(pixels).to(device)).contiguous()
            for column, network in enumerate(networks):
                p = network(x).softmax(dim=1)[:, STRONG]
                found[start : start + len(pixels), column] = p.cpu().numpy()
    return found


def load_classifiers(study: Study, name: str) -> list[nn.Module]:
    """Load the five trained sub-classifiers to the CPU.

    Raises:
        StudyError: The weights cannot be used.
        FitError: A fold is not trained.
    """
    networks = []
    for fold in range(FOLDS):
        directory = study.classifier(name, fold)
        width = read_result(directory).width_multiplier
        try:
            network = build_classifier(
                name, width_multiplier=width, weights=directory / WEIGHTS_FILE
            )
        except ValueError as error:
            raise StudyError(f"Cannot load the network in {directory}: {error}.") from error
        networks.append(network.eval())
    return networks


def classifiers_normalization(study: Study, name: str) -> Normalization:
    """Return the normalisation that the five sub-classifiers were trained with.

    Raises:
        FitError: A fold is not trained, or they were trained with different normalisations.
    """
    results = [read_result(study.classifier(name, fold)) for fold in range(FOLDS)]
    return shared_normalization(results)


def load_segmenter(study: Study, name: str) -> nn.Module:
    """Load a trained segmenter to the CPU.

    Raises:
        StudyError: The weights cannot be used.
        FitError: It is not trained.
    """
    return segmenter_in(study.segmenter(name), name)
