"""The tissue, tumour and HER2-high tumour of a slide, as smooth fields over the plane.

Coordinates are pixels at 4x (2.5 um). Masks are interpolated from a lattice of 8 px, so that every
region and every magnification has the same mask at the same point.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX, TUMOR_FRACTION
from her2d.simulator.noise import Floats, fractal_noise, value_noise
from her2d.simulator.plan import SlidePlan

LATTICE_PX = 8
_SURVEY_PX = 32
_BLOB_SALT, _EDGE_SALT, _TUMOR_SALT, _STRONG_SALT, _LYMPH_SALT, _MUCOSA_SALT = range(10, 16)


@dataclass(frozen=True, slots=True)
class _Blob:
    x: float
    y: float
    radius_x: float
    radius_y: float

    def inside(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return 1 at the centre, 0 on the rim, and negative values outside."""
        distance = np.hypot((x - self.x) / self.radius_x, (y - self.y) / self.radius_y)
        return np.asarray(1 - distance)


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks of a region, bool (height, width) each.

    `strong` lies within `tumor`, and `tumor` within `tissue`.
    """

    tissue: NDArray[np.bool_]
    tumor: NDArray[np.bool_]
    strong: NDArray[np.bool_]


class Anatomy:
    """The fields of one slide. `anatomy_of` returns it and computes it once for each plan."""

    def __init__(self, plan: SlidePlan) -> None:
        self._plan = plan
        rng = np.random.default_rng([plan.seed, 2])
        pieces = 2 if plan.width > 2 * plan.height else 1
        self._pieces = [
            _Blob(
                plan.width * (piece + 0.5 + rng.uniform(-0.03, 0.03)) / pieces,
                plan.height * (0.5 + rng.uniform(-0.03, 0.03)),
                plan.width * rng.uniform(0.40, 0.46) / pieces,
                plan.height * rng.uniform(0.40, 0.46),
            )
            for piece in range(pieces)
        ]
        self._tumors: list[_Blob] = []
        if plan.her2_status != "indeterminate":
            for piece in self._pieces:
                angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
                size = rng.uniform(0.55, 0.8)
                self._tumors.append(
                    _Blob(
                        piece.x + reach * piece.radius_x * np.cos(angle),
                        piece.y + reach * piece.radius_y * np.sin(angle),
                        size * piece.radius_x,
                        size * piece.radius_y,
                    )
                )
        self._strong_above = self._survey()

    def tissue(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the tissue field, which is positive in tissue."""
        edge = fractal_noise(self._plan.seed, _EDGE_SALT, x, y, 420)
        inside = np.max([piece.inside(x, y) for piece in self._pieces], axis=0)
        return np.asarray(inside + 0.22 * edge, np.float32)

    def tumor(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the tumour field, which within tissue is positive in tumour."""
        if not self._tumors:
            return np.full(np.broadcast(x, y).shape, -1, np.float32)
        edge = fractal_noise(self._plan.seed, _TUMOR_SALT, x, y, 520)
        inside = np.max([tumor.inside(x, y) for tumor in self._tumors], axis=0)
        # Tumour does not reach the edge of the tissue, where a pathologist would not annotate it.
        rim = self.tissue(x, y) - 0.06
        return np.asarray(np.minimum(inside + 0.3 * edge, rim), np.float32)

    def strong(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the HER2 field, which within tumour is positive for HER2-high morphology."""
        return np.asarray(self._strength(x, y) - self._strong_above, np.float32)

    def lymphoid(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the lymphoid field, which is positive in aggregates of lymphocytes."""
        return np.asarray(value_noise(self._plan.seed, _LYMPH_SALT, x, y, 210) - 0.62, np.float32)

    def mucosa(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the mucosa field: positive in glandular mucosa, negative in stroma and muscle."""
        return np.asarray(fractal_noise(self._plan.seed, _MUCOSA_SALT, x, y, 640) + 0.1, np.float32)

    def masks(self, x: Floats, y: Floats) -> Masks:
        """Compute masks on the grid of columns at `x` and rows at `y`, ascending, in 4x pixels."""
        across, first_x, columns = _between_nodes(x)
        down, first_y, rows = _between_nodes(y)
        node_x = (first_x + np.arange(columns, dtype=np.float32))[None, :] * LATTICE_PX
        node_y = (first_y + np.arange(rows, dtype=np.float32))[:, None] * LATTICE_PX
        tissue, tumor, strong = (
            (down @ field(node_x, node_y)) @ across.T > 0
            for field in (self.tissue, self.tumor, self.strong)
        )
        on_slide = ((x >= 0) & (x < self._plan.width))[None, :] & (
            (y >= 0) & (y < self._plan.height)
        )[:, None]
        tissue &= on_slide
        tumor &= tissue
        return Masks(tissue, tumor, strong & tumor)

    def _strength(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        return value_noise(self._plan.seed, _STRONG_SALT, x, y, 1100)

    def _survey(self) -> np.float32:
        """Return the strength above which tumour is strong.

        The planned fraction of the tumour area gives the first threshold. A tile takes the class of
        its majority, so the fraction of tiles differs from that of the area; the threshold moves
        until P of the slide agrees with the planned status, with a margin.
        """
        plan = self._plan
        x = np.arange(_SURVEY_PX / 2, plan.width, _SURVEY_PX, dtype=np.float32)[None, :]
        y = np.arange(_SURVEY_PX / 2, plan.height, _SURVEY_PX, dtype=np.float32)[:, None]
        tumor = self.tumor(x, y) > 0
        never = np.float32(2)
        if plan.strong_fraction <= 0 or not tumor.any():
            return never
        strength = self._strength(x, y)
        for fraction in _candidates(plan):
            above = np.float32(np.quantile(strength[tumor], 1 - fraction))
            p = _tile_weighted(tumor, tumor & (strength > above))
            if (p > 0.14) if plan.her2_status == "positive" else (p < 0.06):
                return above
        return never


@lru_cache(maxsize=64)
def anatomy_of(plan: SlidePlan) -> Anatomy:
    """Return the fields of a slide, which are kept for the plans used last."""
    return Anatomy(plan)


def _candidates(plan: SlidePlan) -> list[float]:
    fraction = plan.strong_fraction
    if plan.her2_status == "positive":
        return [min(1.0, fraction + step * (1 - fraction) / 8) for step in range(9)]
    return [fraction * (8 - step) / 8 for step in range(8)]


def _tile_weighted(tumor: NDArray[np.bool_], strong: NDArray[np.bool_]) -> float:
    """Compute P (equation 1) on the grid of the survey; a tile is strong if half its tumour is."""
    side = TILE_PX // _SURVEY_PX
    rows, columns = -(-tumor.shape[0] // side), -(-tumor.shape[1] // side)
    padding = ((0, rows * side - tumor.shape[0]), (0, columns * side - tumor.shape[1]))
    tumor_in, strong_in = (
        np.pad(mask, padding).reshape(rows, side, columns, side).sum(axis=(1, 3))
        for mask in (tumor, strong)
    )
    counted = tumor_in > TUMOR_FRACTION * side * side
    total = tumor_in[counted].sum()
    is_strong = counted & (strong_in * 2 >= tumor_in)
    return float(tumor_in[is_strong].sum() / total) if total else 0.0


def _between_nodes(at: Floats) -> tuple[Floats, int, int]:
    u = at.astype(np.float64) / LATTICE_PX
    node = np.floor(u).astype(np.int64)
    t = (u - node).astype(np.float32)
    first = int(node.min())
    count = int(node.max()) - first + 2
    weights = np.zeros((len(at), count), np.float32)
    index = np.arange(len(at))
    weights[index, node - first] = 1 - t
    weights[index, node - first + 1] = t
    return weights, first, count
