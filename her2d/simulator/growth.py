"""How tumour grows at each place of a slide: its morphology, apart from its HER2 status."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.noise import Floats, fractal_noise, value_noise
from her2d.simulator.plan import Histology

_GLAND_SALT, _EDGE_SALT, _VARIETY_SALT, _FOCUS_SALT, _CELL_SALT, _LAKE_SALT = range(50, 56)
_NEVER = np.float32(2)
_LAKE_PX = 130.0

Coordinates: TypeAlias = NDArray[np.floating]
Growths: TypeAlias = NDArray[np.int8]


class Growth(IntEnum):
    """A growth pattern of tumour."""

    DIFFUSE = 0
    TUBULAR = 1
    PAPILLARY = 2
    CRIBRIFORM = 3
    SIGNET_RING = 4
    MUCINOUS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Points in the tumour of a slide.

    Attributes:
        x, y: float32 (N,), in 4x pixels.
        strong: float32 (N,), the HER2 field there.
    """

    x: Floats
    y: Floats
    strong: Floats


class GrowthField:
    """The growth patterns of one slide's tumour.

    Args:
        seed: Of the slide.
        histology: What is to grow.
        sample: Points that are spread evenly over the tumour, from which the borders between
            patterns follow.
        tiled: Returns the value of a field above which it has a share of the tumour, counted in
            tiles; the field is given at the points of the sample.
    """

    def __init__(
        self,
        seed: int,
        histology: Histology,
        sample: Sample,
        tiled: Callable[[Floats, float], np.float32],
    ) -> None:
        self._seed, self._histology = seed, histology
        self._glands_above = _NEVER
        x, y = sample.x, sample.y
        if histology.glandular:
            self._glands_above = tiled(self._gland_noise(x, y), histology.glandular)
        glandular = self._glandular(sample.strong, x, y)
        has_glands = bool(glandular.mean() >= 1.2 * (histology.papillary + histology.adenoid))
        self._in_glands = has_glands and bool(glandular.any())
        host = glandular if self._in_glands else np.ones_like(glandular)
        variety = self._variety(x, y)
        self._cribriform_below = -_above(-variety, host, histology.adenoid)
        self._papillary_above = _above(variety, host, histology.papillary)
        loose = ~self._has_glands(glandular, variety)
        if loose.mean() < 1.2 * (histology.signet_ring + histology.mucinous):
            loose = np.ones_like(loose)
        cells = self._cells(x, y)
        self._rings_below = -_above(-cells, loose, histology.signet_ring)
        self._mucin_above = _above(cells, loose, histology.mucinous)

    def at(self, strong: Floats, x: Coordinates, y: Coordinates) -> Growths:
        """Return the growth pattern of tumour at points (x, y).

        Args:
            strong: The HER2 field at the points.
            x, y: Points in 4x pixels.
        """
        glandular = self._glandular(strong, x, y)
        nothing = np.zeros(glandular.shape, np.float32)
        histology = self._histology
        has_kinds = histology.papillary or histology.adenoid
        variety = self._variety(x, y) if has_kinds else nothing
        has_cells = histology.signet_ring or histology.mucinous
        cells = self._cells(x, y) if has_cells else nothing
        host = glandular if self._in_glands else np.ones_like(glandular)
        return np.select(
            [
                host & (variety > self._papillary_above),
                host & (variety < self._cribriform_below),
                glandular,
                cells > self._mucin_above,
                cells < self._rings_below,
            ],
            [
                np.int8(Growth.PAPILLARY),
                np.int8(Growth.CRIBRIFORM),
                np.int8(Growth.TUBULAR),
                np.int8(Growth.MUCINOUS),
                np.int8(Growth.SIGNET_RING),
            ],
            np.int8(Growth.DIFFUSE),
        )

    def lake(self, strong: Floats, x: Coordinates, y: Coordinates) -> Floats:
        """Compute the field of mucin, which within tumour is positive in lakes of mucin."""
        if not self._histology.mucinous:
            return np.full(np.broadcast(x, y).shape, -1, np.float32)
        lakes = fractal_noise(self._seed, _LAKE_SALT, x, y, _LAKE_PX) + np.float32(0.22)
        mucinous = self.at(strong, x, y) == Growth.MUCINOUS
        return np.asarray(np.where(mucinous, lakes, np.minimum(lakes, -0.1)), np.float32)

    def _glandular(self, strong: Floats, x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
        if self._histology.glandular is not None:
            return np.asarray(self._gland_noise(x, y) > self._glands_above)
        # Glands end near the edge of HER2-high tumour, but not exactly there.
        edge = np.float32(0.06) * value_noise(self._seed, _EDGE_SALT, x, y, 160)
        return np.asarray(strong + edge > 0)

    def _has_glands(self, glandular: NDArray[np.bool_], variety: Floats) -> NDArray[np.bool_]:
        focus = (variety > self._papillary_above) | (variety < self._cribriform_below)
        return np.asarray(glandular | (focus & (not self._in_glands)))

    def _gland_noise(self, x: Coordinates, y: Coordinates) -> Floats:
        return value_noise(self._seed, _GLAND_SALT, x, y, 1100)

    def _variety(self, x: Coordinates, y: Coordinates) -> Floats:
        salt, period = (_VARIETY_SALT, 560) if self._in_glands else (_FOCUS_SALT, 380)
        return value_noise(self._seed, salt, x, y, period)

    def _cells(self, x: Coordinates, y: Coordinates) -> Floats:
        return value_noise(self._seed, _CELL_SALT, x, y, 620)


def _above(values: Floats, host: NDArray[np.bool_], share: float) -> np.float32:
    """Return the value above which a field has, within a host, a share of all points."""
    if share <= 0 or not host.any():
        return _NEVER
    of_host = min(1.0, share / float(host.mean()))
    return np.float32(np.quantile(values[host], 1 - of_host))
