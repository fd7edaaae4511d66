"""Simulated tumours: tiles in a grid, with as much correlation between neighbours as wanted."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
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
