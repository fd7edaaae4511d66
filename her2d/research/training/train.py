"""Train a study's networks, which are segmenters and five sub-classifiers per classifier."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from her2d.method import FOLDS
from her2d.research.networks.build import build_classifier, build_segmenter
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.fit import FitResult, Task, fit
from her2d.research.training.folds import FoldsError, Grouping, load_or_make_folds, read_folds
from her2d.research.training.gate import check_gate, gated_by_saved
from her2d.research.training.kept_apart import keep_apart
from her2d.research.training.lightning_module import (
    AUROC,
    MIOU,
    ClassifierTraining,
    SegmenterTraining,
)
from her2d.research.training.provenance import Provenance
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study, StudyError
from her2d.research.training.tile_store import TileStore

_SEGMENTER_FOLD = 0


@dataclass(frozen=True, slots=True)
class TrainingTiles:
    """The tiles of the training slides.

    Attributes:
        slides: The training slides.
        store: Their T tiles.
        fold: The fold in which each tile is held out, int64 (T,). Slides without tumour, which
            only segmenters learn from, are in the fold of their patient. The value is -1, in no
            fold, if the patient has no other slide or folds are not grouped by patient.
    """

    slides: tuple[CohortSlide, ...]
    store: TileStore
    fold: NDArray[np.int64]

    @property
    def classified(self) -> NDArray[np.bool_]:
        """Whether each tile is a labelled tumour tile of a slide with a status, bool (T,).

        Classifiers learn from these.
        """
        table = self.store.table
        known = np.array([s.her2_status is not Status.INDETERMINATE for s in self.slides], bool)
        return np.asarray(table.is_tumor & table.labelled & known[table.slide])


def training_tiles(study: Study, recipe: Recipe) -> TrainingTiles:
    """Open the tiles of the training split and make or read its folds.

    Patients that the recipe keeps apart are chosen before.

    Raises:
        StudyError: A slide is not prepared, or patients cannot be kept apart.
        FoldsError: The folds cannot be made, or the saved ones do not match.
        OSError: The folds cannot be written.
    """
    keep_apart(study, recipe)
    slides = _training_slides(study)
    folded = _folded(slides)
    fold = load_or_make_folds(study.folds, folded, seed=recipe.seed, grouping=recipe.grouping)
    of_slide = {s.name: int(f) for s, f in zip(folded, fold, strict=True)}
    return _folded_tiles(study, slides, of_slide, recipe.grouping)


def tiles_of_saved_folds(study: Study) -> TrainingTiles:
    """Open the tiles of the training split with its saved folds, of any seed and grouping.

    Raises:
        StudyError: A slide is not prepared.
        FoldsError: There are no saved folds, or they are of other slides.
    """
    slides = _training_slides(study)
    folds = read_folds(study.folds, _folded(slides))
    return _folded_tiles(study, slides, folds.held_out_in, folds.grouping)


def open_tiles(study: Study, slides: Iterable[CohortSlide]) -> TileStore:
    """Open the prepared tiles of `slides`.

    Raises:
        StudyError: A slide is not prepared.
    """
    try:
        return TileStore(study.tiles, [slide.name for slide in slides])
    except FileNotFoundError as error:
        raise StudyError(
            f"{error.filename} is missing. Run `her2d prepare` until it finishes."
        ) from error


def gated_training_tiles(study: Study, recipe: Recipe) -> TrainingTiles:
    """Open the tiles of the training split, gated as the recipe says.

    Raises:
        StudyError: They cannot be opened, or `train_gate` has not predicted their tumour.
        FoldsError: The folds cannot be made, or the saved ones do not match.
        OSError: The folds cannot be written.
    """
    tiles = training_tiles(study, recipe)
    check_gate(study, recipe)
    return replace(tiles, store=gated_by_saved(study, tiles.store))


def segmenter_task(tiles: TrainingTiles, fold: int = _SEGMENTER_FOLD) -> Task:
    """Return the data of a segmenter: all tissue tiles, those of one fold for validation."""
    learned = np.flatnonzero(tiles.fold != fold)
    return Task(
        store=tiles.store,
        target="mask",
        learned=learned,
        of_second=tiles.store.table.is_tumor[learned],
        held_out=np.flatnonzero(tiles.fold == fold),
        monitor=MIOU,
    )


def classifier_task(tiles: TrainingTiles, fold: int) -> Task:
    """Return the data of a sub-classifier, which is validated on the tiles of `fold`."""
    learned = np.flatnonzero(tiles.classified & (tiles.fold != fold))
    return Task(
        store=tiles.store,
        target="strong",
        learned=learned,
        of_second=tiles.store.table.strong[learned],
        held_out=np.flatnonzero(tiles.classified & (tiles.fold == fold)),
        monitor=AUROC,
    )


def train_segmenter(
    study: Study,
    recipe: Recipe,
    name: str,
    *,
    fold: int = _SEGMENTER_FOLD,
    show_progress: bool = False,
) -> FitResult:
    """Train a segmenter on the tissue tiles of four folds (paper, section 4.3).

    Args:
        study: A prepared study.
        recipe: How to train.
        name: A key of SEGMENTERS.
        fold: The fold to hold out. The bundle's segmenter holds the first one out; those that hold
            others out gate the tiles of the classifiers, see `gate`.
        show_progress: Show a progress bar.

    Returns:
        The result, validated on the tissue tiles of the fold.

    Raises:
        ValueError: There is no such segmenter, or the initial weights belong to another network.
        StudyError, FoldsError, FitError: It cannot be trained.
        OSError: The study cannot be written.
    """
    task = segmenter_task(training_tiles(study, recipe), fold)
    is_bundles = fold == _SEGMENTER_FOLD
    directory = study.segmenter(name) if is_bundles else study.gate_segmenter(name, fold)
    seed = recipe.seed if is_bundles else recipe.seed * FOLDS + fold
    torch.manual_seed(seed)
    how = recipe.segmenter.of_network(name)
    network = build_segmenter(name, width_multiplier=how.width_multiplier, weights=how.weights_file)
    model = SegmenterTraining(network, how, recipe.mean, recipe.std, seed)
    return fit(
        directory,
        name if is_bundles else f"{name} for the gate, fold {fold}",
        model,
        task,
        Provenance(
            seed=seed,
            recipe=how,
            normalization=recipe.normalization,
            data=task.digest(),
        ),
        show_progress=show_progress,
    )


def train_classifier(
    study: Study, recipe: Recipe, name: str, fold: int, *, show_progress: bool = False
) -> FitResult:
    """Train one fold's sub-classifier on the tumour tiles of the other four (section 4.4).

    Args:
        study: A prepared study.
        recipe: How to train.
        name: A key of CLASSIFIERS.
        fold: The fold to hold out, from 0.
        show_progress: Show a progress bar.

    Returns:
        The result, validated on the tumour tiles of the held-out fold.

    Raises:
        ValueError: There is no such classifier, or the initial weights belong to another network.
        StudyError, FoldsError, FitError: It cannot be trained.
        OSError: The study cannot be written.
    """
    tiles = gated_training_tiles(study, recipe)
    _check_folds(study, tiles)
    return fit_classifier(
        study.classifier(name, fold), recipe, name, fold, tiles, show_progress=show_progress
    )


def fit_classifier(
    directory: Path,
    recipe: Recipe,
    name: str,
    fold: int,
    tiles: TrainingTiles,
    *,
    show_progress: bool = False,
) -> FitResult:
    """Train one fold's sub-classifier on tiles that are already opened; see `train_classifier`.

    Args:
        directory: The network's folder.
        recipe: How to train.
        name: A key of CLASSIFIERS.
        fold: The fold to hold out, from 0.
        tiles: The training tiles.
        show_progress: Show a progress bar.
    """
    seed = recipe.seed * FOLDS + fold
    torch.manual_seed(seed)
    how = recipe.classifier.of_network(name)
    network = build_classifier(
        name, width_multiplier=how.width_multiplier, weights=how.weights_file
    )
    task = classifier_task(tiles, fold)
    return fit(
        directory,
        f"{name}, fold {fold}",
        ClassifierTraining(network, how, recipe.mean, recipe.std, seed),
        task,
        Provenance(
            seed=seed,
            recipe=how,
            normalization=recipe.normalization,
            data=task.digest(),
        ),
        show_progress=show_progress,
    )


def _training_slides(study: Study) -> tuple[CohortSlide, ...]:
    return tuple(slide for slide in study.cohort() if slide.split is Split.TRAIN)


def _folded(slides: Sequence[CohortSlide]) -> list[CohortSlide]:
    return [slide for slide in slides if slide.her2_status is not Status.INDETERMINATE]


def _folded_tiles(
    study: Study,
    slides: tuple[CohortSlide, ...],
    held_out_in: Mapping[str, int],
    grouping: Grouping,
) -> TrainingTiles:
    store = open_tiles(study, slides)
    of_slide = held_out_in
    if grouping is Grouping.PATIENT:
        of_patient = {s.patient: held_out_in[s.name] for s in _folded(slides)}
        of_slide = {s.name: of_patient.get(s.patient, -1) for s in slides}
    by_slide = np.array([of_slide.get(s.name, -1) for s in slides], np.int64)
    return TrainingTiles(slides, store, by_slide[store.table.slide])


def _check_folds(study: Study, tiles: TrainingTiles) -> None:
    """Raise FoldsError before any fold is trained if one of them cannot be validated."""
    for fold in range(FOLDS):
        held_out = tiles.store.table.strong[tiles.classified & (tiles.fold == fold)]
        strong, weak = int(held_out.sum()), int((~held_out).sum())
        if not (strong and weak):
            raise FoldsError(
                f"Fold {fold} holds out {strong} strong and {weak} weak tumour tiles, and needs"
                " both for validation. Add or label more slides, or remove"
                f" {study.folds} and try another seed (--set seed=...)."
            )
