"""Optical density of pixels, in which amounts of dyes add up (Beer and Lambert).

A value of 255 has none, and that of 0 is finite.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Of each value of a pixel, natural logarithm, float32 (256,)."""


def with_density_changed(
    image: NDArray[np.uint8], change: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Multiply the optical density of an image's pixels by a matrix.

    Args:
        image: uint8 (H, W, 3) RGB.
        change: (3, 3), which multiplies columns: each row makes one output channel. With (3, 4),
            the last value of a row is added.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    density: Any = cv2.transform(cv2.LUT(image, DENSITY), change)
    return np.asarray((256 * cv2.exp(-density) - 1).round().clip(0, 255).astype(np.uint8))
