"""The tissue, tumour and HER2-high tumour of a slide, as smooth fields over the plane.

Coordinates are pixels at 4x (2.5 um). Masks are interpolated from a lattice of 8 px, so that every
region and every magnification has the same mask at the same point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.method import THRESHOLD, TILE_PX, TUMOR_FRACTION
from her2d.simulator.growth import Growth, GrowthField, Growths, Sample
from her2d.simulator.noise import Floats, fractal_noise, value_noise
from her2d.simulator.plan import SlidePlan

Field: TypeAlias = Callable[[NDArray[np.floating], NDArray[np.floating]], Floats]
"""A function of x and y, in 4x pixels."""

LATTICE_PX = 8
_SURVEY_PX = 32
_BLOB_SALT, _EDGE_SALT, _TUMOR_SALT, _STRONG_SALT, _LYMPH_SALT, _MUCOSA_SALT = range(10, 16)
_ANNOTATED_TUMOR_SALT, _ANNOTATED_STRONG_SALT = 56, 57
_NEVER = np.float32(2)

INFILTRATION = 0.045
"""Depth of the tumour field over which tumour cells thin out, on both sides of its edge, where a
slide has a histology."""


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
class Follicle:
    """A tertiary lymphoid structure: a mantle of lymphocytes around a germinal centre."""

    x: float
    y: float
    radius: float


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
        self._pieces = _biopsy(plan, rng) if plan.specimen == "biopsy" else _resection(plan, rng)
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
        survey = self._survey()
        self._strong_above = survey.strong_above(plan)
        self._growth: GrowthField | None = None
        self.follicles: tuple[Follicle, ...] = ()
        if plan.histology is not None:
            inside = survey.tumor
            sample = Sample(
                np.broadcast_to(survey.x, inside.shape)[inside],
                np.broadcast_to(survey.y, inside.shape)[inside],
                (survey.strength - self._strong_above)[inside],
            )
            if len(sample.x):
                self._growth = GrowthField(plan.seed, plan.histology, sample, survey.above_in_tumor)
            if plan.histology.tertiary_lymphoid:
                self.follicles = self._some_follicles(survey)

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

    @property
    def is_varied(self) -> bool:
        """Whether growth differs from the HER2 field, and tumour infiltrates what is around it."""
        return self._plan.histology is not None

    def has(self, growth: Growth) -> bool:
        """Return whether tumour may grow in a pattern somewhere on the slide."""
        histology = self._plan.histology
        if histology is None:
            return growth in (Growth.DIFFUSE, Growth.TUBULAR)
        shares = {
            Growth.PAPILLARY: histology.papillary,
            Growth.CRIBRIFORM: histology.adenoid,
            Growth.SIGNET_RING: histology.signet_ring,
            Growth.MUCINOUS: histology.mucinous,
        }
        return self._growth is not None and shares.get(growth, 1.0) > 0

    def growth(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Growths:
        """Return the growth pattern of tumour at points (x, y)."""
        strong = self.strong(x, y)
        if self._growth is not None:
            return self._growth.at(strong, x, y)
        return np.where(strong > 0, np.int8(Growth.TUBULAR), np.int8(Growth.DIFFUSE))

    def lake(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the field of mucin, which is positive in lakes of mucin within tumour."""
        if self._growth is None:
            return np.full(np.broadcast(x, y).shape, -1, np.float32)
        return np.minimum(self._growth.lake(self.strong(x, y), x, y), self.tumor(x, y))

    def follicle(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the field of follicles: 1 at their centres, 0 on their edges."""
        field = np.full(np.broadcast(x, y).shape, -1, np.float32)
        near = [follicle for follicle in self.follicles if _is_near(follicle, x, y)]
        for follicle in near:
            distance = np.hypot(x - follicle.x, y - follicle.y) / follicle.radius
            np.maximum(field, 1 - distance, out=field)
        if near:
            field += np.float32(0.12) * value_noise(self._plan.seed, _LYMPH_SALT, x, y, 40)
        return field

    def lymphoid(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the lymphoid field, which is positive in aggregates of lymphocytes."""
        scattered = np.asarray(
            value_noise(self._plan.seed, _LYMPH_SALT, x, y, 210) - 0.62, np.float32
        )
        return np.maximum(scattered, self.follicle(x, y)) if self.follicles else scattered

    def mucosa(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the mucosa field: positive in glandular mucosa, negative in stroma and muscle."""
        return np.asarray(fractal_noise(self._plan.seed, _MUCOSA_SALT, x, y, 640) + 0.1, np.float32)

    def masks(self, x: Floats, y: Floats) -> Masks:
        """Compute masks on the grid of columns at `x` and rows at `y`, ascending, in 4x pixels."""
        return self._masks(x, y, self.tumor, self.strong)

    def annotated(self, x: Floats, y: Floats) -> Masks:
        """Compute masks as an annotator drew them, on the grid of `masks`."""
        return self._masks(x, y, self.annotated_tumor, self.annotated_strong)

    def annotated_tumor(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the tumour field as an annotator saw it."""
        noise, tumor = self._plan.annotation, self.tumor(x, y)
        if noise is None or not self._tumors:
            return tumor
        error = value_noise(self._plan.seed, _ANNOTATED_TUMOR_SALT, x, y, 190)
        return np.asarray(tumor + noise.tumor * error, np.float32)

    def annotated_strong(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Compute the HER2 field as an annotator saw it."""
        noise, strong = self._plan.annotation, self.strong(x, y)
        if noise is None:
            return strong
        error = value_noise(self._plan.seed, _ANNOTATED_STRONG_SALT, x, y, 260)
        return np.asarray(strong + noise.strong * error, np.float32)

    def on_grid(self, field: Field, x: Floats, y: Floats) -> Floats:
        """Interpolate a field from the lattice on the grid of columns at `x` and rows at `y`."""
        return _lattice(x, y)(field)

    def tissue_mask(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Compute only the mask of tissue, on the grid of `masks`."""
        return (_lattice(x, y)(self.tissue) > 0) & self._on_slide(x, y)

    def _masks(self, x: Floats, y: Floats, tumor_field: Field, strong_field: Field) -> Masks:
        interpolated = _lattice(x, y)
        tissue, tumor, strong = (
            interpolated(field) > 0 for field in (self.tissue, tumor_field, strong_field)
        )
        tissue &= self._on_slide(x, y)
        tumor &= tissue
        return Masks(tissue, tumor, strong & tumor)

    def _on_slide(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        across = (x >= 0) & (x < self._plan.width)
        down = (y >= 0) & (y < self._plan.height)
        return np.asarray(across[None, :] & down[:, None])

    def _strength(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        return value_noise(self._plan.seed, _STRONG_SALT, x, y, 1100)

    def _survey(self) -> "_Survey":
        plan = self._plan
        x = np.arange(_SURVEY_PX / 2, plan.width, _SURVEY_PX, dtype=np.float32)[None, :]
        y = np.arange(_SURVEY_PX / 2, plan.height, _SURVEY_PX, dtype=np.float32)[:, None]
        return _Survey(x, y, self.tumor(x, y) > 0, self._strength(x, y))

    def _some_follicles(self, survey: "_Survey") -> tuple[Follicle, ...]:
        """Place follicles around the tumour, where there is tissue."""
        rng = np.random.default_rng([self._plan.seed, 8])
        tissue, tumor = self.tissue(survey.x, survey.y), self.tumor(survey.x, survey.y)
        beside = (tissue > 0.1) & (tumor < -0.05)
        near = beside & (tumor > -0.35)
        rows, columns = np.nonzero(near if near.any() else tissue > 0.1)
        wanted = int(rng.integers(4, 10)) if len(rows) else 0
        return tuple(
            Follicle(
                float(survey.x[0, columns[index]]),
                float(survey.y[rows[index], 0]),
                float(rng.uniform(38, 80)),
            )
            for index in rng.integers(max(1, len(rows)), size=wanted)
        )


@dataclass(frozen=True, slots=True)
class _Survey:
    """The tumour of a slide and the strength of HER2 in it, on a coarse grid."""

    x: Floats
    y: Floats
    tumor: NDArray[np.bool_]
    strength: Floats

    def strong_above(self, plan: SlidePlan) -> np.float32:
        """Return the strength above which tumour is strong."""
        if plan.strong_fraction <= 0 or not self.tumor.any():
            return _NEVER
        if plan.histology is not None:
            return self._above(
                self.strength, plan.strong_fraction, plan.strong_fraction >= THRESHOLD
            )
        # The planned fraction of the tumour area gives the first threshold. A tile takes the class
        # of its majority, so the fraction of tiles differs from that of the area; the threshold
        # moves until P of the slide agrees with the planned status, with a margin.
        for fraction in _candidates(plan):
            above = np.float32(np.quantile(self.strength[self.tumor], 1 - fraction))
            p = _tile_weighted(self.tumor, self.tumor & (self.strength > above))
            if (p > 0.14) if plan.her2_status == "positive" else (p < 0.06):
                return above
        return _NEVER

    def above_in_tumor(self, values: Floats, share: float) -> np.float32:
        """Return the value above which a field has a share of the tumour, counted in tiles.

        Args:
            values: float32 (N,), the field at the N points of the survey that are tumour.
            share: of the tumour.
        """
        field = np.full(self.tumor.shape, -_NEVER, np.float32)
        field[self.tumor] = values
        return self._above(field, share, None)

    def _above(self, field: Floats, share: float, is_positive: bool | None) -> np.float32:
        """Return the value above which P (equation 1) of a field is nearest to a share.

        Tiles of which about half is strong may count otherwise in the picture, so three cuts are
        tried.

        Args:
            field: float32, on the grid of the survey.
            share: the wanted P.
            is_positive: on which side of the threshold P must be by all cuts; None for any.
        """
        found: list[tuple[bool, float, float, np.float32]] = []
        for fraction in (share, *np.linspace(0.005, 1, 80)):
            above = np.float32(np.quantile(field[self.tumor], 1 - fraction))
            inside = self.tumor & (field > above)
            p = np.array([_tile_weighted(self.tumor, inside, cut) for cut in (0.46, 0.5, 0.54)])
            is_wrong = is_positive is not None and bool(((p >= THRESHOLD) != is_positive).any())
            error = round(float(np.abs(p - share).mean()), 3)
            found.append((is_wrong, error, abs(fraction - share), above))
        return min(found, key=lambda candidate: candidate[:3])[3]


def _resection(plan: SlidePlan, rng: np.random.Generator) -> list[_Blob]:
    pieces = 2 if plan.width > 2 * plan.height else 1
    return [
        _Blob(
            plan.width * (piece + 0.5 + rng.uniform(-0.03, 0.03)) / pieces,
            plan.height * (0.5 + rng.uniform(-0.03, 0.03)),
            plan.width * rng.uniform(0.40, 0.46) / pieces,
            plan.height * rng.uniform(0.40, 0.46),
        )
        for piece in range(pieces)
    ]


def _biopsy(plan: SlidePlan, rng: np.random.Generator) -> list[_Blob]:
    """Return the fragments of a biopsy, in two rows."""
    columns = int(rng.integers(2, 4))
    return [
        _Blob(
            plan.width * (column + 0.5 + rng.uniform(-0.06, 0.06)) / columns,
            plan.height * (row + 0.5 + rng.uniform(-0.06, 0.06)) / 2,
            plan.width * rng.uniform(0.34, 0.44) / columns,
            plan.height * rng.uniform(0.32, 0.42) / 2,
        )
        for row in range(2)
        for column in range(columns)
    ]


def _is_near(follicle: Follicle, x: NDArray[np.floating], y: NDArray[np.floating]) -> bool:
    """Return whether a follicle, with the noise of its edge, may reach the points' rectangle."""
    if not x.size:
        return False
    reach = 1.2 * follicle.radius
    return bool(
        x.min() - reach < follicle.x < x.max() + reach
        and y.min() - reach < follicle.y < y.max() + reach
    )


@lru_cache(maxsize=64)
def anatomy_of(plan: SlidePlan) -> Anatomy:
    """Return the fields of a slide, which are kept for the plans used last."""
    return Anatomy(plan)


def _candidates(plan: SlidePlan) -> list[float]:
    fraction = plan.strong_fraction
    if plan.her2_status == "positive":
        return [min(1.0, fraction + step * (1 - fraction) / 8) for step in range(9)]
    return [fraction * (8 - step) / 8 for step in range(8)]


def _tile_weighted(tumor: NDArray[np.bool_], strong: NDArray[np.bool_], cut: float = 0.5) -> float:
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
    is_strong = counted & (strong_in >= cut * tumor_in)
    return float(tumor_in[is_strong].sum() / total) if total else 0.0


def _lattice(x: Floats, y: Floats) -> Callable[[Field], Floats]:
    """Return a function that interpolates a field on the grid of columns `x` and rows `y`."""
    across, first_x, columns = _between_nodes(x)
    down, first_y, rows = _between_nodes(y)
    node_x = (first_x + np.arange(columns, dtype=np.float32))[None, :] * LATTICE_PX
    node_y = (first_y + np.arange(rows, dtype=np.float32))[:, None] * LATTICE_PX
    return lambda field: np.asarray((down @ field(node_x, node_y)) @ across.T, np.float32)


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
