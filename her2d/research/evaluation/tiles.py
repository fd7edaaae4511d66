"""Evaluate segmenters, classifiers and integrators on tiles (paper, Tables S1 to S3)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import skops.io
import torch
from numpy.typing import NDArray
from torch import nn

from her2d.bundle.integrator import INTEGRATOR_TRUSTED_TYPES
from her2d.bundle.manifest import Normalization
from her2d.research.evaluation.calibration import calibration
from her2d.research.evaluation.report import (
    CalibrationRow,
    ClassifierRow,
    IntegratorRow,
    SegmenterRow,
    TileMetrics,
)
from her2d.research.evaluation.roc_area import auroc
from her2d.research.networks.export import SegmenterGraph
from her2d.research.training.cohort import Split
from her2d.research.training.integrator_file import check_integrator
from her2d.research.training.integrators import IntegratorScore
from her2d.research.training.lightning_module import MIOU
from her2d.research.training.model_selection import (
    ModelSelection,
    classifier_scores,
    segmenter_results,
)
from her2d.research.training.out_of_fold import FoldProbabilities, load_segmenter
from her2d.research.training.padding import outside_scan
from her2d.research.training.recipe import Recipe
from her2d.research.training.slide_level import slide_level
from her2d.research.training.study import Study
from her2d.research.training.tile_store import TileStore
from her2d.research.training.train import open_tiles

_BATCH = 8


def segmenter_rows(
    study: Study,
    recipe: Recipe,
    sets: tuple[Split, ...],
    selected: str,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[SegmenterRow, ...]:
    """Make Table S1, the MIoU of every trained segmenter over the tissue tiles of each test set.

    Args:
        study: Study with trained segmenters.
        recipe: The study's recipe.
        sets: The test sets.
        selected: Name of the bundle's segmenter.
        progress: Called with the number of tiles done.

    Raises:
        StudyError, FitError: A slide or network is missing.
    """
    slides = study.cohort()
    stores = {split: open_tiles(study, [s for s in slides if s.split is split]) for split in sets}
    rows = []
    for result in segmenter_results(study, recipe):
        network = load_segmenter(study, result.name)
        normalization = result.normalization
        sets_of: dict[str, float | None] = {}
        for split, store in stores.items():
            done = partial(_report, progress, f"{result.name} on {split.value}", len(store))
            counts = store_confusion(network, store, normalization, done)
            sets_of[split.value] = mean_iou(counts)
        rows.append(
            SegmenterRow(
                name=result.name,
                selected=result.name == selected,
                validation=result.validation[MIOU],
                sets=sets_of,
            )
        )
    return tuple(rows)


def store_confusion(
    network: nn.Module,
    store: TileStore,
    normalization: Normalization,
    done: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Count the pixels of all tiles by true and predicted class, without the tiles' padding.

    Args:
        network: Segmenter that maps float32 (N, 3, 512, 512) to logits (N, 2, 512, 512).
        store: The tiles.
        normalization: Normalisation that the network was trained with.
        done: Called after each batch with the number of tiles done.

    Returns:
        Confusion matrix, see `pixel_confusion`, int64 (2, 2).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = SegmenterGraph(network, normalization.mean, normalization.std).to(device).eval()
    counts = np.zeros((2, 2), np.int64)
    with torch.inference_mode():
        for start in range(0, len(store), _BATCH):
            indices = range(start, min(start + _BATCH, len(store)))
            pixels = np.stack([store.pixels(i) for i in indices])
            _, mask = graph(torch.from_numpy(pixels).to(device))
            truth = np.stack([store.tumor(i) for i in indices])
            scan = ~outside_scan(pixels)
            counts += pixel_confusion(truth[scan], mask.cpu().numpy()[scan])
            done(indices.stop)
    return counts


def pixel_confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count pixels by true class (rows) and predicted class (columns), other tissue first.

    Args:
        truth, predicted: Masks of the same shape, uint8, 0 or 1.

    Returns:
        Confusion matrix, int64 (2, 2).
    """
    return np.bincount((2 * truth + predicted).ravel(), minlength=4).reshape(2, 2)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Compute the mean intersection over union (paper, Table S1).

    Args:
        counts: Confusion matrix, int64 (classes, classes).

    Returns:
        The mean over classes that occur in truth or prediction, or NaN if none does.
    """
    intersection = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
    present = union > 0
    if not present.any():
        return float("nan")
    return float(np.mean(intersection[present] / union[present]))


def classifier_rows(study: Study, recipe: Recipe, selected: str) -> tuple[ClassifierRow, ...]:
    """Make Table S2, the validation metrics of every classifier over the folds.

    Args:
        study: Study with trained classifiers.
        recipe: The study's recipe.
        selected: Name of the bundle's classifier.

    Raises:
        FitError: A result is not valid.
    """
    return tuple(
        ClassifierRow(
            name=score.name,
            selected=score.name == selected,
            auroc=score.auroc,
            sensitivity=score.sensitivity,
            mean_auroc=_mean(score.auroc),
            mean_sensitivity=_mean(score.sensitivity),
        )
        for score in classifier_scores(study, recipe)
    )


def integrator_rows(
    study: Study,
    selection: ModelSelection,
    scores: list[IntegratorScore],
    sets: dict[Split, FoldProbabilities],
) -> tuple[IntegratorRow, ...]:
    """Make Table S3, every integrator on the tumour tiles of each test set and on their slides.

    Args:
        study: Study with fitted integrators.
        selection: The selected models.
        scores: Scores of the integrators.
        sets: Predictions of the sub-classifiers by test set.
    """
    rows = []
    for score in scores:
        model = load_model(study, score.name)
        rows.append(
            IntegratorRow(
                name=score.name,
                selected=score.name == selection.integrator,
                validation_auroc=score.auroc,
                validation_sensitivity=score.sensitivity,
                validation_specificity=score.specificity,
                tile_cut=score.tile_cut,
                validation_slides=score.slide_level,
                sets={
                    split.value: _tile_metrics(model, score.tile_cut, tiles)
                    for split, tiles in sets.items()
                },
            )
        )
    return tuple(rows)


def calibration_rows(
    study: Study, integrator: str, sets: dict[Split, FoldProbabilities]
) -> tuple[CalibrationRow, ...]:
    """Measure the calibration of an integrator on each test set.

    Args:
        study: Study with fitted integrators.
        integrator: Name of the integrator.
        sets: Predictions of the sub-classifiers by test set.
    """
    model = load_model(study, integrator)
    return tuple(
        CalibrationRow(
            set=split.value, calibration=calibration(predict_strong(model, tiles.p), tiles.strong)
        )
        for split, tiles in sets.items()
    )


def load_model(study: Study, name: str) -> Any:
    """Load a fitted integrator of the study.

    Raises:
        StudyError: It is missing or damaged.
    """
    path = study.integrators / f"{name}.skops"
    check_integrator(path)
    return skops.io.load(path, trusted=list(INTEGRATOR_TRUSTED_TYPES))


def predict_strong(model: Any, p_folds: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict p(strong) with an integrator.

    Args:
        model: Integrator with `predict_proba`.
        p_folds: p(strong) of the five sub-classifiers, float32 (T, 5).

    Returns:
        Probabilities, float64 (T,).
    """
    if len(p_folds) == 0:
        return np.empty(0)
    return np.asarray(model.predict_proba(p_folds)[:, 1], np.float64)


def _report(progress: Callable[[str], None], what: str, tiles: int, done: int) -> None:
    progress(f"{what}: {done} of {tiles} tiles")


def _tile_metrics(model: Any, tile_cut: float, tiles: FoldProbabilities) -> TileMetrics:
    p = predict_strong(model, tiles.p)
    strong, called = tiles.strong, p > tile_cut
    return TileMetrics(
        tiles=len(strong),
        strong=int(strong.sum()),
        auroc=auroc(strong, p),
        sensitivity=float(called[strong].mean()) if strong.any() else float("nan"),
        specificity=float((~called[~strong]).mean()) if not strong.all() else float("nan"),
        slides=slide_level(called, tiles.slide_tiles),
    )


def _mean(values: tuple[float, ...]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
