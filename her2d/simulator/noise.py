"""Random numbers as functions of the position.

Everything that the simulator draws depends on nodes of unbounded lattices, whose numbers are hashed
from (seed, salt, node). So any region of a slide can be rendered alone, and neighbouring regions
join without a seam.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_COLUMN = np.uint64(0x9E3779B97F4A7C15)
_ROW = np.uint64(0xC2B2AE3D27D4EB4F)
_SEED = np.uint64(0x165667B19E3779F9)
_SALT = np.uint64(0xD6E8FEB86659FD93)
_LOW_MASK = np.uint64(0xFFFFFF)
_UNIT = np.float32(1.0 / (1 << 24))


def uniform(seed: int, salt: int, column: NDArray[np.int64], row: NDArray[np.int64]) -> Floats:
    """Return a number in [0, 1) for each lattice node, float32 of the broadcast shape."""
    with np.errstate(over="ignore"):
        return _hashed(_key(seed, salt, column, row))


def value_noise(
    seed: int, salt: int, x: NDArray[np.floating], y: NDArray[np.floating], period: float
) -> Floats:
    """Compute smooth noise in [-1, 1] at points (x, y), with features of the size `period`."""
    u, v = x / period, y / period
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    s, t = _smoothstep(u - column), _smoothstep(v - row)
    with np.errstate(over="ignore"):
        # The keys of the next column and row are those of this one and a constant.
        key = _key(seed, salt, column, row)
        top = _mixed(_hashed(key), _hashed(key + _COLUMN), s)
        key = key + _ROW
        bottom = _mixed(_hashed(key), _hashed(key + _COLUMN), s)
    return (_mixed(top, bottom, t) * 2 - 1).astype(np.float32)


def _key(
    seed: int, salt: int, column: NDArray[np.int64], row: NDArray[np.int64]
) -> NDArray[np.uint64]:
    return np.asarray(
        column.astype(np.uint64) * _COLUMN
        + row.astype(np.uint64) * _ROW
        + (np.uint64(seed & 0xFFFFFFFF) * _SEED + np.uint64(salt) * _SALT)
    )


def _hashed(key: NDArray[np.uint64]) -> Floats:
    """The finaliser of SplitMix64, as a number in [0, 1)."""
    mixed = (key ^ (key >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return np.asarray(((mixed ^ (mixed >> np.uint64(31))) & _LOW_MASK).astype(np.float32) * _UNIT)


def fractal_noise(
    seed: int, salt: int, x: NDArray[np.floating], y: NDArray[np.floating], period: float
) -> Floats:
    """Compute two octaves of `value_noise`, within [-1, 1]."""
    coarse = value_noise(seed, salt, x, y, period)
    fine = value_noise(seed, salt + 1000, x, y, period / 2.7)
    return np.asarray(coarse * 0.7 + fine * 0.3, np.float32)


def grid_noise(
    seed: int, salt: int, x: Floats, y: Floats, period_x: float, period_y: float
) -> Floats:
    """Compute `value_noise` on the grid of columns at `x` and rows at `y`, (len(y), len(x)).

    On a grid the interpolation is separable, so that two small matrix products replace four hashes
    per pixel.
    """
    across, first_column, columns = _weights(x, period_x)
    down, first_row, rows = _weights(y, period_y)
    nodes = uniform(
        seed,
        salt,
        np.arange(first_column, first_column + columns)[None, :],
        np.arange(first_row, first_row + rows)[:, None],
    )
    return np.asarray((down @ (nodes * 2 - 1)) @ across.T, np.float32)


def _weights(at: Floats, period: float) -> tuple[Floats, int, int]:
    u = at.astype(np.float64) / period
    node = np.floor(u).astype(np.int64)
    s = _smoothstep(u - node).astype(np.float32)
    first = int(node.min())
    count = int(node.max()) - first + 2
    weights = np.zeros((len(at), count), np.float32)
    index = np.arange(len(at))
    weights[index, node - first] = 1 - s
    weights[index, node - first + 1] = s
    return weights, first, count


def _smoothstep(t: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(t * t * (3 - 2 * t))


def _mixed(
    a: NDArray[np.floating], b: NDArray[np.floating], t: NDArray[np.floating]
) -> NDArray[np.floating]:
    return np.asarray(a + (b - a) * t)
