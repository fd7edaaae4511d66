"""The calibrated interval of P: split conformal prediction. Pure functions.

The bundle holds, for slides that no model learned from, how far P was from the annotated share,
relative to how much doubt there was (Lei et al. 2018, "Distribution-Free Predictive Inference for
Regression"). If a new slide is one like them, the interval below holds its annotated share with
the calibration's coverage, for any distribution of errors. Slides that are called positive are
compared with such slides only, and so are negative ones, so that the coverage holds for either
call (Vovk et al. 2003, "Mondrian Confidence Machine"): positive calls are wrong more often. Slides
of one patient are not independent, so patients weigh the same and not slides (Lee, Barber and
Willett 2023). If the bundle states a prevalence, the coverage is for a population with that share
of HER2-positive slides (Tibshirani et al. 2019, "Conformal Prediction Under Covariate Shift").
"""

import math
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import Call, IntervalScale
from her2d.bundle.manifest import Interval as Calibration
from her2d.pipeline.interval import Interval, TumorTiles

# On the scale of `stabilized`: 0.1 points above 0 %, 1.7 below and 1.9 above 10 %, 3 at 50 %.
_LEAST_HALF_WIDTH = 0.03
_NEAR = 1
EVIDENCE = ("few_tiles", "disagreement", "near_cut")
"""Evidence of doubt, in the order of `evidence_of_doubt`."""


def conformal_interval(
    tiles: TumorTiles, calibration: Calibration, tile_cut: float, threshold: float
) -> Interval:
    """Return the interval of a slide's annotated share of HER2-high tumour.

    Args:
        tiles: at least one tile.
        calibration: the bundle's.
        tile_cut: the integrator's probability above which a tile is strong.
        threshold: P from which the bundle calls a slide positive, 0 to 1.

    Raises:
        ValueError: there are no tumour tiles.
    """
    if len(tiles) == 0:
        raise ValueError("a slide without tumour has no interval")
    center = stabilized(tiles.share)
    scale = scale_of(evidence_of_doubt(tiles, tile_cut), calibration.scale)
    call = call_of(tiles.share, threshold)
    half = max(_LEAST_HALF_WIDTH, residual_quantile(calibration, call) * float(scale))
    return Interval(
        low=math.sin(max(center - half, 0.0)) ** 2,
        high=math.sin(min(center + half, math.pi / 2)) ** 2,
        calibrated=True,
    )


def call_of(share: float, threshold: float) -> Call:
    """Return what a slide with that P is called."""
    return "positive" if share >= threshold else "negative"


def stabilized(share: float) -> float:
    """Return arcsin of the square root of a share, whose variance hardly depends on the share."""
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def evidence_of_doubt(tiles: TumorTiles, tile_cut: float) -> NDArray[np.float64]:
    """Measure what makes a slide's P uncertain.

    Returns:
        1 / sqrt(tumour tiles); the standard deviation of the five folds, mean over tumour; the
        share of tumour in tiles nearer to the tile cut than to 0 or 1. float64 (3,).
    """
    pixels = tiles.tumor_pixels / tiles.tumor_pixels.sum()
    near = nearness(tiles.p_strong, tile_cut) == _NEAR
    return np.array(
        [
            1 / math.sqrt(len(tiles)),
            float(pixels @ tiles.p_folds.std(axis=1, dtype=np.float64)),
            float(pixels @ near),
        ]
    )


def nearness(p_strong: NDArray[np.floating], tile_cut: float) -> NDArray[np.int8]:
    """Return to what probabilities are nearer: 0 to 0, 1 to the tile cut, 2 to 1; int8 (T,).

    It never falls as the probability rises.
    """
    not_near_0, near_1 = p_strong > tile_cut / 2, p_strong >= (1 + tile_cut) / 2
    return not_near_0.astype(np.int8) + near_1


def scale_of(evidence: NDArray[np.float64], scale: IntervalScale) -> NDArray[np.float64]:
    """Return how wide intervals are relative to each other.

    Args:
        evidence: of each slide, float64 (..., 3); see `evidence_of_doubt`.
        scale: the calibration's.
    """
    weights = np.array([getattr(scale, name) for name in EVIDENCE])
    # Evidence without weight may be unknown.
    evidence = np.where(weights == 0, 0.0, evidence)
    return np.asarray(scale.base + evidence @ weights, np.float64)


def residual_quantile(calibration: Calibration, call: Call) -> float:
    """Return the residual that a new patient's slide exceeds with 1 - coverage at the most.

    If too few patients have slides of that call, it is the largest of theirs, and not smaller than
    the quantile of all slides. Where theirs weigh W in all, and a slide w at the most, W / (W + w)
    of new slides do not exceed it: without a prevalence, n / (n + 1) with n patients.

    Args:
        calibration: the bundle's.
        call: what the new slide is called.
    """
    of_all = _quantile(calibration, np.ones(calibration.slides, bool))
    if not calibration.call:
        return of_all
    alike = np.array(calibration.call) == call
    if not calibration.has_quantile(alike):
        return max([of_all, *compress(calibration.residuals, alike)])
    return _quantile(calibration, alike)


def _quantile(calibration: Calibration, alike: NDArray[np.bool_]) -> float:
    residuals = np.array(calibration.residuals)[alike]
    weight = np.array(calibration.weights_of(alike))
    order = np.argsort(residuals, kind="stable")
    # The new slide is one more, whose status and residual may be any.
    whole = weight.sum() + calibration.weights.largest
    reached = np.cumsum(weight[order]) >= calibration.coverage * whole - 1e-9
    return float(residuals[order][int(np.argmax(reached))])
