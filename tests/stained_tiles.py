"""Tissue of one colour, in which no part is an artefact."""

import numpy as np
from numpy.typing import NDArray

TUMOR_WEAK = (60, 20, 120)
TUMOR_STRONG = (95, 100, 160)
STROMA = (230, 150, 190)
BACKGROUND = (245, 245, 245)
_GRAIN = 4


def stained(color: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3) with the grain of tissue in focus."""
    pixels = np.full((height, width, 3), color, np.uint8)
    pixels[::2, ::2] += _GRAIN
    pixels[1::2, 1::2] += _GRAIN
    return pixels
