"""Dyes -> colours: Beer and Lambert's law, with vectors after Ruifrok and Johnston (2001)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.noise import Floats

_HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
_EOSIN = np.array([0.10, 0.93, 0.34])
_DAB = np.array([0.27, 0.57, 0.78])
_LIGHT = 244.0
DAB_THRESHOLD = 0.015
"""Density of DAB, averaged over a cell, that parts simulated strong tumour (0.03 to 0.05, of thin
membranes) from all else (0.003)."""


@dataclass(frozen=True, slots=True)
class Stain:
    """One slide's staining: no two runs of a laboratory's stainer are alike.

    Attributes:
        hematoxylin, eosin: float32 (3,), optical density of a unit of dye in R, G, B.
    """

    hematoxylin: Floats
    eosin: Floats


def stain_of(seed: int) -> Stain:
    """The staining of the slide with this seed: hue and strength vary from slide to slide."""
    rng = np.random.default_rng([seed, 3])

    def drawn(dye: NDArray[np.float64]) -> Floats:
        vector = np.clip(dye + rng.normal(0, 0.03, 3), 0.03, None)
        return (vector / np.linalg.norm(vector) * rng.uniform(0.82, 1.2)).astype(np.float32)

    return Stain(drawn(_HEMATOXYLIN), drawn(_EOSIN))


def developed(stain: Stain, hematoxylin: Floats, eosin: Floats) -> Floats:
    """Dye amounts (H, W) -> transmitted light float32 (H, W, 3), 0..255 RGB."""
    density = hematoxylin[..., None] * stain.hematoxylin + eosin[..., None] * stain.eosin
    return np.asarray(np.float32(_LIGHT) * np.exp(-density), np.float32)


def developed_ihc(hematoxylin: Floats, dab: Floats) -> Floats:
    """Pale counterstain and brown DAB (H, W) -> transmitted light float32 (H, W, 3), 0..255 RGB."""
    density = (0.45 * hematoxylin)[..., None] * _HEMATOXYLIN + dab[..., None] * _DAB
    return np.asarray(np.float32(_LIGHT) * np.exp(-density), np.float32)
