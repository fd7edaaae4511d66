"""How good a bundle is on slides that nothing was learned from, measured as the daemon runs it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from her2d.bundle import Bundle
from her2d.inference import Engine, Integrator, open_engine
from her2d.pipeline import Pipeline
from her2d.training.tiles import CohortSlide, TileSet, read_tiles

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Figures on held-out slides.

    Attributes:
        miou: mean over tumour and non-tumour of intersection over union, all tissue tiles pooled.
        tile_auroc: of the integrator's p(strong) over true tumour tiles.
        slide_accuracy: share of slides whose status, indeterminate included, is the planned one.
        slide_accuracy_ci: 95 % Clopper-Pearson interval.
        wrong: slides that were called otherwise, as `name: planned -> called`.
    """

    slides: int
    positive: int
    without_tumor: int
    miou: float
    tile_auroc: float
    slide_accuracy: float
    slide_accuracy_ci: tuple[float, float]
    wrong: tuple[str, ...]


def measure(
    bundle: Bundle, slides: list[CohortSlide], *, progress: Callable[[], None] = lambda: None
) -> HeldOut:
    """Run the bundle over `slides`; `progress` is called after each. Raises SlideError."""
    engine = open_engine(bundle, backend="auto")
    integrator = Integrator(bundle)
    counts = np.zeros((2, 2), np.int64)
    p_strong, strong = [], []
    wrong = []
    try:
        with Pipeline(engine, integrator) as pipeline:
            for slide in slides:
                called = pipeline.submit(slide.path).result().score.status
                if called.value != slide.her2_status:
                    wrong.append(f"{slide.name}: {slide.her2_status} -> {called.value}")
                tiles = read_tiles([slide])
                counts += pixel_confusion(engine, tiles)
                p_folds = fold_probabilities(engine, tiles)
                p_strong.append(integrator.integrate(p_folds).p_strong)
                strong.append(tiles.strong[tiles.is_tumor])
                progress()
    finally:
        engine.close()
    right = len(slides) - len(wrong)
    interval = binomtest(right, len(slides)).proportion_ci(method="exact")
    return HeldOut(
        slides=len(slides),
        positive=sum(slide.her2_status == "positive" for slide in slides),
        without_tumor=sum(slide.her2_status == "indeterminate" for slide in slides),
        miou=mean_iou(counts),
        tile_auroc=float(roc_auc_score(np.concatenate(strong), np.concatenate(p_strong))),
        slide_accuracy=right / len(slides),
        slide_accuracy_ci=(float(interval.low), float(interval.high)),
        wrong=tuple(wrong),
    )


def pixel_confusion(engine: Engine, tiles: TileSet) -> NDArray[np.int64]:
    """Pixels by truth (rows) and prediction (columns), non-tumour first, int64 (2, 2)."""
    counts = np.zeros((2, 2), np.int64)
    for start in range(0, len(tiles.pixels), _AT_ONCE):
        predicted = engine.segment(tiles.pixels[start : start + _AT_ONCE]).mask
        truth = tiles.tumor[start : start + _AT_ONCE]
        counts += np.bincount((2 * truth + predicted).ravel(), minlength=4).reshape(2, 2)
    return counts


def fold_probabilities(engine: Engine, tiles: TileSet) -> NDArray[np.float32]:
    """p(strong) of each fold for the set's tumour tiles, float32 (T, 5)."""
    chosen = tiles.pixels[tiles.is_tumor]
    parts = [engine.classify(chosen[i : i + _AT_ONCE]) for i in range(0, len(chosen), _AT_ONCE)]
    return np.concatenate([np.empty((0, 5), np.float32), *parts])


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean intersection over union of a (classes, classes) confusion matrix."""
    intersection = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
    return float(np.mean(intersection / np.maximum(union, 1)))
