"""Measure the training cohort's stain, which lets a bundle notice slides stained differently."""

from collections.abc import Sequence

import numpy as np

from her2d.bundle.manifest import HeStain, Spread, Stain, StainVector
from her2d.method import TILE_PX, UM_PER_PX
from her2d.pipeline.quality import QualityLimits, QualityTally, measure_tile
from her2d.pipeline.stains import SlideStain, degrees_between
from her2d.research.training.tile_store import TileStore

_FEWEST_SLIDES = 5
# With smaller standard deviations every slide would be an outlier.
_LEAST_STD = 1e-3  # optical density
_LEAST_SATURATION_STD = 0.5

_TILE_MM2 = (TILE_PX * UM_PER_PX / 1000) ** 2
# The few slides beyond these quantiles may be of another stain by mistake.
_LOW, _HIGH = 0.05, 0.95
_MARGIN = 1.5
_METHOD = HeStain()


def measure_stain(store: TileStore) -> Stain | None:
    """Measure mean and standard deviation over slides of tissue's optical density and saturation.

    Slides are measured as in the pipeline, on the tiles that are not background.

    Args:
        store: The tiles of the training slides.

    Returns:
        The manifest's stain section, or None if fewer than five slides have tissue.
    """
    limits = QualityLimits()
    densities, saturations, stains = [], [], []
    for number in range(len(store.names)):
        tally = QualityTally()
        for index in np.flatnonzero(store.table.slide == number):
            tally.add(measure_tile(store.pixels(int(index)), limits), limits)
        if tally.tissue:
            densities.append(tally.density / tally.tissue)
            saturations.append(tally.saturation / tally.tissue)
            stains.append(tally.stain.finish(tile_mm2=_TILE_MM2))
    if len(densities) < _FEWEST_SLIDES:
        return None
    density, saturation = np.array(densities), np.array(saturations)
    return Stain(
        mean=_rounded(density.mean(axis=0)),
        std=_rounded(np.maximum(density.std(axis=0, ddof=1), _LEAST_STD)),
        saturation=Spread(
            mean=round(float(saturation.mean()), 3),
            std=round(max(float(saturation.std(ddof=1)), _LEAST_SATURATION_STD), 3),
        ),
        he=measured_he(stains),
    )


def measured_he(slides: Sequence[SlideStain]) -> HeStain:
    """Return the stain vectors of slides, with limits that let 95 % of them pass with a margin.

    The limits are never stricter than the method's, since the slides of other laboratories differ
    more from these than these from each other.
    """
    vectors = [(s.hematoxylin, s.eosin) for s in slides if s.hematoxylin and s.eosin]
    if len(vectors) < _FEWEST_SLIDES:
        return _METHOD
    hematoxylin = _middle([one for one, _ in vectors])
    eosin = _middle([other for _, other in vectors])
    degrees = [
        max(degrees_between(one, hematoxylin) or 0.0, degrees_between(other, eosin) or 0.0)
        for one, other in vectors
    ]
    red_to_green = [one[0] / one[1] for one, _ in vectors]
    pink = [slide.pink_percent or 0.0 for slide in slides]
    foreign = [slide.foreign_percent or 0.0 for slide in slides]
    return HeStain(
        hematoxylin=hematoxylin,
        eosin=eosin,
        degrees=_upper(degrees, _METHOD.degrees, 180.0),
        red_to_green=_upper(red_to_green, _METHOD.red_to_green, np.inf, margin=1.1),
        pink_percent=round(min(float(np.quantile(pink, _LOW)) / _MARGIN, _METHOD.pink_percent), 3),
        foreign_percent=_upper(foreign, _METHOD.foreign_percent, 100.0),
    )


def _upper(values: list[float], method: float, most: float, *, margin: float = _MARGIN) -> float:
    """Return a limit that nearly all values keep, or the method's if that is wider."""
    return round(min(max(margin * float(np.quantile(values, _HIGH)), method), most), 3)


def _middle(vectors: list[StainVector]) -> StainVector:
    """Return the direction in the middle of unit vectors, which a few others do not turn."""
    middle = np.median(np.array(vectors), axis=0)
    return _rounded(middle / np.linalg.norm(middle))


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 5) for value in values)
    return red, green, blue
