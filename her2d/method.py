"""The numbers of HER2Net (Liao et al. 2025, sections 4.2 to 4.6), each stated once, and names."""

from enum import StrEnum
from typing import Final

MAGNIFICATION = 4.0
"""Objective magnification of the tiles."""

UM_PER_PX = 2.5
"""Micrometres to a pixel at that magnification, about."""

TILE_PX: Final = 512
"""Side of a tile, in pixels."""

FOLDS = 5
"""Cross-validation folds, and so sub-classifiers."""

SATURATION = 10.0
"""Mean HSV saturation, 0..255, up to which a tile is background."""

TUMOR_FRACTION = 0.10
"""Share of tumour pixels up to which a tile is a non-tumour tile."""

THRESHOLD = 0.10
"""P of equation 1 from which a slide is HER2-positive."""

TILE_CUT = 0.5
"""Probability of the integrator above which a tile is strong, where the bundle states no other."""

COVERAGE = 0.95
"""Share of slides whose interval of P is to hold what it is an interval of. Ours."""


class MethodName(StrEnum):
    """How a bundle calls a slide.

    `her2net` classifies tiles and calls a slide by the share of HER2-high tumour (paper, section
    4). `mil` weighs the tiles of a whole slide by attention, and calls it by a probability (Ilse et
    al. 2018, arXiv:1802.04712).
    """

    HER2NET = "her2net"
    MIL = "mil"
