"""Tables S1 to S3: segmenters, classifiers and integrators on tiles."""

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
    TileFigures,
)
from her2d.research.evaluation.segmentation import mean_iou, pixel_confusion
from her2d.research.evaluation.slides import auroc
from her2d.research.networks.export import SegmenterGraph
from her2d.research.training.cohort import Split
from her2d.research.training.fit import shared_normalization
from her2d.research.training.integrators import IntegratorScore
from her2d.research.training.lightning_module import MIOU
from her2d.research.training.model_selection import (
    ModelSelection,
    classifier_scores,
    segmenter_results,
)
from her2d.research.training.out_of_fold import FoldProbabilities, load_segmenter
from her2d.research.training.recipe import Recipe
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
    """MIoU of every trained segmenter over each set's tissue tiles. Raises StudyError.

    `progress` is told how many tiles each has done.
    """
    slides = study.cohort()
    stores = {split: open_tiles(study, [s for s in slides if s.split is split]) for split in sets}
    rows = []
    for result in segmenter_results(study, recipe):
        network = load_segmenter(study, result.name)
        seen = shared_normalization([result], recipe)
        sets_of: dict[str, float | None] = {}
        for split, store in stores.items():
            told = partial(_told, progress, f"{result.name} on {split.value}", len(store))
            counts = store_confusion(network, store, seen, told)
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
    """Pixels of a store's tiles by truth and prediction, int64 (2, 2), a batch at a time."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = SegmenterGraph(network, normalization.mean, normalization.std).to(device).eval()
    counts = np.zeros((2, 2), np.int64)
    with torch.inference_mode():
        for start in range(0, len(store), _BATCH):
            indices = range(start, min(start + _BATCH, len(store)))
            pixels = np.stack([store.pixels(i) for i in indices])
            _, mask = graph(torch.from_numpy(pixels).to(device))
            truth = np.stack([store.tumor(i) for i in indices])
            counts += pixel_confusion(truth, mask.cpu().numpy())
            done(indices.stop)
    return counts


def classifier_rows(study: Study, recipe: Recipe, selected: str) -> tuple[ClassifierRow, ...]:
    """Every classifier's validation figures over the folds."""
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
    """Every integrator on each set's tumour tiles."""
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
                sets={split.value: _tile_figures(model, tiles) for split, tiles in sets.items()},
            )
        )
    return tuple(rows)


def calibration_rows(
    study: Study, integrator: str, sets: dict[Split, FoldProbabilities]
) -> tuple[CalibrationRow, ...]:
    """Reliability of the selected integrator on each set."""
    model = load_model(study, integrator)
    return tuple(
        CalibrationRow(set=split.value, calibration=calibration(p_of(model, tiles.p), tiles.strong))
        for split, tiles in sets.items()
    )


def load_model(study: Study, name: str) -> Any:
    """A fitted integrator of the study."""
    path = study.integrators / f"{name}.skops"
    return skops.io.load(path, trusted=list(INTEGRATOR_TRUSTED_TYPES))


def p_of(model: Any, p_folds: NDArray[np.float32]) -> NDArray[np.float64]:
    """An integrator's p(strong) of (T, 5) fold probabilities, float64 (T,)."""
    if len(p_folds) == 0:
        return np.empty(0)
    return np.asarray(model.predict_proba(p_folds)[:, 1], np.float64)


def _told(progress: Callable[[str], None], what: str, tiles: int, done: int) -> None:
    progress(f"{what}: {done} of {tiles} tiles")


def _tile_figures(model: Any, tiles: FoldProbabilities) -> TileFigures:
    p = p_of(model, tiles.p)
    strong = tiles.strong
    return TileFigures(
        tiles=len(strong),
        strong=int(strong.sum()),
        auroc=auroc(strong, p),
        sensitivity=float((p[strong] > 0.5).mean()) if strong.any() else float("nan"),
        specificity=float((p[~strong] <= 0.5).mean()) if not strong.all() else float("nan"),
    )


def _mean(values: tuple[float, ...]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
