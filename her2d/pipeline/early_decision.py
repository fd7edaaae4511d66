"""Decide a tumour tile's class before all its sub-classifiers have run, where that is certain.

The sub-classifiers are run in the order of their importance for the integrator, a random forest.
After each of them the forest's probability is bounded for all values that the others could have
(`her2d.bundle.forest_bounds`). If both bounds lie on the same side of the tile cut, the class is
what it would be with all five, and the others are not run.

Everything that the slide's result rests on is the same then. A calibrated interval may also rest on
which tiles are near the tile cut; such a tile is decided only when that is certain too. It may rest
on how much the five sub-classifiers disagree, for which all five are needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.forest import Forest
from her2d.bundle.forest_bounds import ForestBounds
from her2d.bundle.integrator import Integrator
from her2d.bundle.manifest import Interval
from her2d.method import FOLDS
from her2d.pipeline.conformal import nearness


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is certain of T tiles.

    Attributes:
        decided: bool (T,), whether the class is.
        strong: bool (T,), the class of those that are decided.
        low: float32 (T,), the least probability that the integrator could give.
        p_strong: float32 (T,), its probability; NaN where it is not certain.
    """

    decided: NDArray[np.bool_]
    strong: NDArray[np.bool_]
    low: NDArray[np.float32]
    p_strong: NDArray[np.float32]


class EarlyDecision:
    """Decides tiles by the sub-classifiers that have run.

    Args:
        forest: the integrator.
        tile_cut: the integrator's probability above which a tile is strong.
        interval: the bundle's calibration of the interval of P; None without one.

    Attributes:
        order: the sub-classifiers' numbers, the most important first.

    Raises:
        ValueError: the interval needs all sub-classifiers.
    """

    def __init__(self, forest: Forest, tile_cut: float, interval: Interval | None) -> None:
        if (problem := _interval_problem(interval)) is not None:
            raise ValueError(problem)
        self.order = tuple(np.argsort(-forest.feature_importances_, kind="stable").tolist())
        self._bounds = [ForestBounds(forest, self.order[:ran]) for ran in range(1, FOLDS)]
        self._tile_cut = tile_cut
        self._nearness_counts = interval is not None and interval.scale.near_cut > 0

    def decide(self, p_folds: NDArray[np.float32], ran: int) -> Decisions:
        """Decide what is certain of T tiles.

        Args:
            p_folds: float32 (T, 5); those of the sub-classifiers that have not run are not read.
            ran: how many sub-classifiers have run, 1 to 4.
        """
        low, high = self._bounds[ran - 1].of(p_folds)
        decided = (low > self._tile_cut) | (high <= self._tile_cut)
        low32, high32 = low.astype(np.float32), high.astype(np.float32)
        if self._nearness_counts:
            decided &= nearness(low32, self._tile_cut) == nearness(high32, self._tile_cut)
        return Decisions(
            decided=decided,
            strong=np.asarray(low > self._tile_cut),
            low=low32,
            p_strong=np.where(low == high, low32, np.float32(np.nan)),
        )


def bundle_problem(integrator: Integrator, interval: Interval | None) -> str | None:
    """Return in one sentence why a bundle needs all sub-classifiers for every tile; None if not.

    Args:
        integrator: the bundle's.
        interval: its calibration of the interval of P; None without one.
    """
    if integrator.forest is None:
        return "The bundle's integrator is not a random forest."
    return _interval_problem(interval)


def _interval_problem(interval: Interval | None) -> str | None:
    if interval is not None and interval.scale.disagreement > 0:
        return (
            "The bundle's interval of P rests on how much the five sub-classifiers disagree, for"
            " which all five are needed."
        )
    return None
