"""Colours of dyes by the Beer-Lambert law, with vectors after Ruifrok and Johnston (2001)."""

from dataclasses import dataclass

import numpy as np

from her2d.simulator.centers import LIGHT, REFERENCE, Center, Rgb
from her2d.simulator.noise import Floats

_HEMATOXYLIN = np.array(REFERENCE.hematoxylin)
_DAB = np.array([0.27, 0.57, 0.78])
DAB_THRESHOLD = 0.015
"""The mean DAB density of a cell above which simulated tumour is strong.

Strong tumour, with its thin membranes, has 0.03 to 0.05; everything else has 0.003.
"""


@dataclass(frozen=True, slots=True)
class Stain:
    """The stain of one slide, which differs between slides as it does in a laboratory.

    Attributes:
        hematoxylin, eosin: float32 (3,), optical density of one unit of dye in R, G and B.
    """

    hematoxylin: Floats
    eosin: Floats


def stain_of(seed: int, center: Center) -> Stain:
    """Return the stain of the slide with a seed, which determines hue and strength."""
    rng = np.random.default_rng([seed, 3])

    def drawn(dye: Rgb) -> Floats:
        vector = np.clip(np.array(dye) + rng.normal(0, center.stain_spread, 3), 0.03, None)
        strength = rng.uniform(*center.stain_strength)
        return (vector / np.linalg.norm(vector) * strength).astype(np.float32)

    return Stain(drawn(center.hematoxylin), drawn(center.eosin))


def developed(stain: Stain, hematoxylin: Floats, eosin: Floats) -> Floats:
    """Convert amounts of dye (H, W) to transmitted light, float32 (H, W, 3), 0..255 RGB."""
    density = hematoxylin[..., None] * stain.hematoxylin + eosin[..., None] * stain.eosin
    return np.asarray(np.float32(LIGHT) * np.exp(-density), np.float32)


def developed_ihc(hematoxylin: Floats, dab: Floats) -> Floats:
    """Convert a pale counterstain and brown DAB (H, W) to light, as `developed` does."""
    density = (0.45 * hematoxylin)[..., None] * _HEMATOXYLIN + dab[..., None] * _DAB
    return np.asarray(np.float32(LIGHT) * np.exp(-density), np.float32)
