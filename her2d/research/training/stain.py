"""Measure the training cohort's stain, which lets a bundle notice slides stained differently."""

import numpy as np

from her2d.bundle.manifest import Spread, Stain
from her2d.pipeline.quality import QualityLimits, QualityTally, measure_tile
from her2d.research.training.tile_store import TileStore

_FEWEST_SLIDES = 5
# With smaller standard deviations every slide would be an outlier.
_LEAST_STD = 1e-3  # optical density
_LEAST_SATURATION_STD = 0.5


def measure_stain(store: TileStore) -> Stain | None:
    """Measure mean and standard deviation over slides of tissue's optical density and saturation.

    Slides are measured as in the pipeline, on the tiles that are not background.

    Args:
        store: The tiles of the training slides.

    Returns:
        The manifest's stain section, or None if fewer than five slides have tissue.
    """
    tallies = [QualityTally() for _ in store.names]
    limits = QualityLimits()
    for index in range(len(store)):
        tallies[store.table.slide[index]].add(measure_tile(store.pixels(index), limits), limits)
    found = [tally for tally in tallies if tally.tissue]
    if len(found) < _FEWEST_SLIDES:
        return None
    densities = np.array([tally.density / tally.tissue for tally in found])
    mean, std = densities.mean(axis=0), np.maximum(densities.std(axis=0, ddof=1), _LEAST_STD)
    saturation = np.array([tally.saturation / tally.tissue for tally in found])
    return Stain(
        mean=_rounded(mean),
        std=_rounded(std),
        saturation=Spread(
            mean=round(float(saturation.mean()), 3),
            std=round(max(float(saturation.std(ddof=1)), _LEAST_SATURATION_STD), 3),
        ),
    )


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 5) for value in values)
    return red, green, blue
