"""The interval of P where the bundle is not calibrated: a spatial block bootstrap. Pure functions.

Neighbouring tiles look alike, so drawing single tiles again takes a slide for more evidence than it
is: with tissue-like correlation a nominal 95 % interval covers 30 to 70 %. Square blocks of tiles
are drawn instead (Lahiri 2003, "Resampling Methods for Dependent Data"), and the interval is at
least as wide as Jeffreys' for a share of as many observations as there are blocks of 2 x 2 tiles,
so that a slide with no strong tile has an interval too.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from her2d.method import COVERAGE
from her2d.pipeline.interval import Interval, TumorTiles

_CHUNK_DRAWS = 500_000
# Sides of the blocks in tiles; a tile is 1.3 mm.
_SIDES = (1, 2, 3)
# Neighbouring tiles count as one observation.
_OBSERVATION_SIDE = 2
# Fewer blocks do not show how much P varies between them.
_FEWEST_BLOCKS = 4


def block_bootstrap_interval(
    tiles: TumorTiles, *, seed: int, resamples: int = 1000, confidence: float = COVERAGE
) -> Interval:
    """Percentile bootstrap of P over blocks of tiles, no narrower than Jeffreys' interval.

    The widest of the intervals for blocks of 1, 2 and 3 tiles a side is taken, because how far
    tissue correlates is not known. For each side, every position of the blocks' grid is used
    equally often. The same tiles give the same interval in any order.

    Args:
        tiles: at least one tile.
        seed: of the bootstrap.
        resamples: number of samples for each side, about.
        confidence: nominal.

    Raises:
        ValueError: there are no tumour tiles.
    """
    if len(tiles) == 0:
        raise ValueError("a slide without tumour has no interval")
    rng = np.random.default_rng(seed)
    tail = (1 - confidence) / 2
    low, high = jeffreys_interval(tiles.share, _observations(tiles), confidence)
    for side in _SIDES:
        grids = list(_block_grids(tiles, side))
        if side > 1 and np.mean([len(total) for total, _ in grids]) < _FEWEST_BLOCKS:
            break
        p = np.concatenate(
            [_resampled(rng, total, strong, -(-resamples // len(grids))) for total, strong in grids]
        )
        low = min(low, float(np.quantile(p, tail)))
        high = max(high, float(np.quantile(p, 1 - tail)))
    return Interval(low, high, calibrated=False)


def jeffreys_interval(
    share: float, observations: float, confidence: float = COVERAGE
) -> tuple[float, float]:
    """Jeffreys' interval of a proportion, which starts at 0 or ends at 1 where the share does.

    Args:
        share: the observed proportion, 0 to 1.
        observations: number of independent observations, not always an integer.
        confidence: of the interval (Brown, Cai and DasGupta 2001).
    """
    # SciPy takes longer to import than a short command works; few slides need it here.
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    strong, weak = share * observations + 0.5, (1 - share) * observations + 0.5
    low = 0.0 if share <= 0 else float(betaincinv(strong, weak, tail))
    high = 1.0 if share >= 1 else float(betaincinv(strong, weak, 1 - tail))
    # With few observations and a share near 0 or 1, it need not hold the share itself.
    return min(low, share), max(high, share)


def _observations(tiles: TumorTiles) -> float:
    """Return Kish's effective number of blocks, whose tumour differs in size."""
    grids = _block_grids(tiles, _OBSERVATION_SIDE)
    return float(np.mean([total.sum() ** 2 / (total**2).sum() for total, _ in grids]))


def _block_grids(
    tiles: TumorTiles, side: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield tumour pixels and strong tumour pixels by block, for each position of the grid."""
    pixels = tiles.tumor_pixels.astype(np.float64)
    strong = np.where(tiles.strong, pixels, 0.0)
    columns = int(tiles.column.max()) // side + 2
    for down in range(side):
        for right in range(side):
            block = (tiles.row + down) // side * columns + (tiles.column + right) // side
            _, number = np.unique(block, return_inverse=True)
            # In sorted order, so that the order of blocks does not depend on that of tiles.
            yield (
                np.asarray(np.bincount(number, pixels), np.float64),
                np.asarray(np.bincount(number, strong), np.float64),
            )


def _resampled(
    rng: np.random.Generator,
    total: NDArray[np.float64],
    strong: NDArray[np.float64],
    resamples: int,
) -> NDArray[np.float64]:
    """Return P of each resample; memory is bounded for any number of blocks."""
    blocks = len(total)
    p = np.empty(resamples)
    at_once = max(1, _CHUNK_DRAWS // blocks)
    for start in range(0, resamples, at_once):
        stop = min(start + at_once, resamples)
        drawn = rng.integers(0, blocks, (stop - start, blocks), dtype=np.int32)
        p[start:stop] = strong[drawn].sum(axis=1) / total[drawn].sum(axis=1)
    return p
