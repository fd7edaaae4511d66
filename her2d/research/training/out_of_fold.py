"""p(strong) of the five sub-classifiers, and which of them a tile may honestly be given.

A tile of the five folds was in four sub-classifiers' training; only the fifth, which held it out,
says something honest of it. So the integrator learns from slides kept from all five where the
cohort has such (split `integrator`), and otherwise from each tile's one honest probability, put in
all five places. The second never shows it sub-classifiers that disagree; where slides abound,
keep some apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from her2d.bundle.manifest import Normalization
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.networks.export import STRONG, Normalized
from her2d.research.training.cohort import Split
from her2d.research.training.fit import WEIGHTS_FILE, read_result, shared_normalization
from her2d.research.training.folds import FOLDS
from her2d.research.training.leakage import check_leakage
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import TileStore
from her2d.research.training.train import open_tiles, tiles_of_saved_folds, training_tiles

_BATCH = 8


class PredictionSource(StrEnum):
    """Which honest probabilities an integrator was fitted on."""

    HELD_OUT = "held-out slides, all five probabilities"
    OUT_OF_FOLD = "out-of-fold, each tile's one honest probability five times"


@dataclass(frozen=True, slots=True)
class FoldProbabilities:
    """T labelled tumour tiles.

    Attributes:
        p: float32 (T, 5).
        strong: bool (T,).
        patient: str (T,).
    """

    p: NDArray[np.float32]
    strong: NDArray[np.bool_]
    patient: NDArray[np.str_]


def out_of_fold_predictions(
    study: Study, recipe: Recipe, classifier: str
) -> tuple[FoldProbabilities, PredictionSource]:
    """What the integrator may be fitted on, and where it is from.

    Raises:
        StudyError: a network or slide is missing, or a network has seen what it should not have.
        FoldsError, FitError: the folds or the networks do not go with the recipe, or together.
    """
    check_leakage(study, classifiers=[classifier])
    if any(slide.split is Split.INTEGRATOR for slide in study.cohort()):
        return split_probabilities(
            study, recipe, classifier, Split.INTEGRATOR
        ), PredictionSource.HELD_OUT
    tiles = training_tiles(study, recipe)
    networks = load_classifiers(study, classifier)
    seen = classifiers_normalization(study, recipe, classifier)
    p = np.zeros((len(tiles.store), FOLDS), np.float32)
    for fold, network in enumerate(networks):
        held_out = np.flatnonzero(tiles.classified & (tiles.fold == fold))
        p[held_out] = p_strong([network], tiles.store, held_out, seen)
    patients = np.array([slide.patient for slide in tiles.slides])
    selected = np.flatnonzero(tiles.classified)
    table = tiles.store.table
    found = FoldProbabilities(p[selected], table.strong[selected], patients[table.slide[selected]])
    return found, PredictionSource.OUT_OF_FOLD


def fitting_digest(study: Study) -> str:
    """SHA-256 of the tiles that an integrator would be fitted on now.

    Raises:
        StudyError: a slide is not prepared.
        FoldsError: there are no folds, or they are of other slides.
    """
    kept_apart = [slide for slide in study.cohort() if slide.split is Split.INTEGRATOR]
    if kept_apart:
        return open_tiles(study, kept_apart).digest()
    tiles = tiles_of_saved_folds(study)
    return tiles.store.digest(tiles.classified, tiles.fold)


def split_probabilities(
    study: Study, recipe: Recipe, classifier: str, split: Split
) -> FoldProbabilities:
    """All five probabilities of a split that no fold has seen. Raises StudyError, FitError."""
    if split is Split.TRAIN:
        raise ValueError("the folds have seen the training split")
    slides = [slide for slide in study.cohort() if slide.split is split]
    store = open_tiles(study, slides)
    selected = np.flatnonzero(store.table.is_tumor & store.table.labelled)
    seen = classifiers_normalization(study, recipe, classifier)
    p = p_strong(load_classifiers(study, classifier), store, selected, seen)
    patients = np.array([slide.patient for slide in slides] or [""])
    return FoldProbabilities(p, store.table.strong[selected], patients[store.table.slide[selected]])


def p_strong(
    networks: Sequence[nn.Module],
    store: TileStore,
    indices: NDArray[np.int64],
    normalization: Normalization,
) -> NDArray[np.float32]:
    """p(strong) of each network for the tiles at `indices`: float32 (len(indices), networks)."""
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
    """The five trained sub-classifiers, on the CPU. Raises StudyError, FitError."""
    networks = []
    for fold in range(FOLDS):
        directory = study.classifier(name, fold)
        width = read_result(directory).recipe.width_multiplier
        try:
            network = build_classifier(
                name, width_multiplier=width, weights=directory / WEIGHTS_FILE
            )
        except ValueError as error:
            raise StudyError(f"{directory} holds no usable network: {error}.") from error
        networks.append(network.eval())
    return networks


def classifiers_normalization(study: Study, recipe: Recipe, name: str) -> Normalization:
    """What the five sub-classifiers were trained with. Raises FitError where it differs."""
    results = [read_result(study.classifier(name, fold)) for fold in range(FOLDS)]
    return shared_normalization(results, recipe)


def load_segmenter(study: Study, name: str) -> nn.Module:
    """The trained segmenter, on the CPU. Raises StudyError, FitError."""
    directory = study.segmenter(name)
    width = read_result(directory).recipe.width_multiplier
    try:
        network = build_segmenter(name, width_multiplier=width, weights=directory / WEIGHTS_FILE)
    except ValueError as error:
        raise StudyError(f"{directory} holds no usable network: {error}.") from error
    return network.eval()
