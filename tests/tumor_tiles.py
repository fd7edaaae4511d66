"""Simulated tumours: tiles in a grid, with as much correlation between neighbours as wanted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from scipy.stats import norm

from her2d.method import FOLDS
from her2d.pipeline.interval import TumorTiles


def tiles_of(row, column, strong, *, tumor_pixels=None, p_strong=None, p_folds=None) -> TumorTiles:
    """Tumour tiles whose networks agree with their class, unless said otherwise."""
    strong = np.asarray(strong, np.bool_)
    p = np.where(strong, 0.95, 0.05) if p_strong is None else np.asarray(p_strong)
    return TumorTiles(
        row=np.asarray(row, np.int64),
        column=np.asarray(column, np.int64),
        tumor_pixels=(
            np.full(len(strong), 100_000)
            if tumor_pixels is None
            else np.asarray(tumor_pixels, np.int64)
        ),
        strong=strong,
        p_strong=p,
        p_folds=np.repeat(p[:, None], FOLDS, axis=1) if p_folds is None else p_folds,
    )


def tumor_places(rng: np.random.Generator, tiles: int) -> tuple[NDArray[np.int64], ...]:
    """Rows and columns of the tiles of one irregular tumour."""
    side = int(np.ceil(np.sqrt(tiles / 0.6))) + 2
    shape = gaussian_filter(rng.standard_normal((side, side)), 1.5)
    row, column = np.indices((side, side))
    inside = shape / shape.std() - 0.25 * np.hypot(row - side / 2, column - side / 2)
    return tuple(np.unravel_index(np.argsort(-inside.ravel())[:tiles], (side, side)))


def tissue_noise(
    rng: np.random.Generator, row: NDArray[np.int64], column: NDArray[np.int64], length: float
) -> NDArray[np.float64]:
    """Standard normal noise of tiles; neighbours share it as far as `length` tiles, about."""
    if length == 0:
        return rng.standard_normal(len(row))
    pad = int(4 * length) + 1
    impulse = gaussian_filter(np.pad([[1.0]], pad), length)
    side = int(max(row.max(), column.max())) + 1 + 2 * pad
    field = gaussian_filter(rng.standard_normal((side, side)), length)
    return field[row + pad, column + pad] / np.sqrt((impulse**2).sum())


def simulated_tiles(
    rng: np.random.Generator, *, tiles: int, share: float, length: float
) -> TumorTiles:
    """One slide from tissue of which `share` is strong."""
    row, column = tumor_places(rng, tiles)
    strong = tissue_noise(rng, row, column, length) > norm.ppf(1 - share)
    return tiles_of(row, column, strong, tumor_pixels=rng.integers(26_215, 262_145, tiles))


@dataclass(frozen=True, slots=True)
class HardSlide:
    """A simulated slide with its annotated share of HER2-high tumour.

    Attributes:
        tiles: what the networks found.
        annotated: share of tumour area that is high, 0 to 1.
        correlation: how far neighbouring tiles are alike, in tiles; 0 means not at all.
    """

    tiles: TumorTiles
    annotated: float
    correlation: float


def hard_slides(
    rng: np.random.Generator, count: int, *, cut: float, positive: float = 0.125
) -> list[HardSlide]:
    """Slides of which so many are mostly strong, with errors that come together on some."""
    return [_hard_slide(rng, cut, positive) for _ in range(count)]


def _hard_slide(rng: np.random.Generator, cut: float, positive: float) -> HardSlide:
    tiles = int(rng.integers(20, 120))
    row, column = tumor_places(rng, tiles)
    correlation = float(rng.choice([0.0, 0.8, 1.5]))
    share = rng.beta(3, 5) if rng.random() < positive else rng.beta(0.5, 30)
    stain = tissue_noise(rng, row, column, correlation) + norm.ppf(share)
    high = norm.cdf(stain / 0.4)  # of the tile's tumour
    err_together = rng.random() < 0.09
    shift = rng.normal(0, 0.6) + (rng.choice([-2.5, 2.5]) if err_together else 0.0)
    logit = 3 * (2 * high - 1) + shift + 0.8 * tissue_noise(rng, row, column, correlation)
    of_fold = rng.normal(0, 1.3 if err_together else 0.3, FOLDS)
    of_tile = rng.normal(0, 1.6 if err_together else 0.4, (tiles, FOLDS))
    p_folds = expit(logit[:, None] + of_fold + of_tile)
    p_strong = p_folds.mean(axis=1)
    pixels = rng.integers(26_215, 262_145, tiles)
    found = tiles_of(
        row, column, p_strong > cut, tumor_pixels=pixels, p_strong=p_strong, p_folds=p_folds
    )
    return HardSlide(found, float(pixels @ high / pixels.sum()), correlation)
