"""The white padding of tiles at the right and lower edge of a scan (paper, section 4.2)."""

import numpy as np
from numpy.typing import NDArray

_WHITE = 255


def scan_extent(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the width and height of a tile without the pure white rows and columns at its end.

    A prepared tile does not state how much of it is scan. A scan's own glass is hardly ever pure
    white, and where it is, nothing but background is left out.

    Args:
        pixels: uint8 (H, W, 3) RGB.
    """
    inked = (pixels != _WHITE).any(axis=2)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    return (int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else (0, 0)


def outside_scan(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each pixel of tiles is padding.

    Args:
        pixels: uint8 (N, H, W, 3) RGB.

    Returns:
        bool (N, H, W).
    """
    outside = np.ones(pixels.shape[:3], np.bool_)
    for number, tile in enumerate(pixels):
        width, height = scan_extent(tile)
        outside[number, :height, :width] = False
    return outside
