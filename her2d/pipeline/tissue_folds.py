"""Where tissue lies double: dark lines, longer than any gland, on lighter tissue to both sides.

Ours. Each pixel's density is averaged along short lines in twelve directions and compared with
the same averages a fold's breadth to either side; the darker side counts, so that the edge of a
dense region is not a fold. The remaining pixels must be connected over most of a millimetre.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

LINES_SIDE = 128
"""Pixels along a tile's side that folds are looked for at: 10 um each."""

_DIRECTIONS = 12
_LINE = 41
_BREADTH = 8.0
_DARKER = 1.25
_LENGTH = 60.0
_ON_TISSUE = 0.9
_BESIDE_TISSUE = 0.7
_FAINTEST = 0.1

Floats = NDArray[np.float32]


def fold_pixels(density: Floats, tissue: NDArray[np.bool_]) -> int:
    """How many pixels of a tile are suspected to be fold.

    Args:
        density: float32 (128, 128), optical density summed over R, G and B.
        tissue: bool (128, 128).
    """
    if tissue.mean() < _ON_TISSUE * _LINE / LINES_SIDE**2:
        return 0
    dark = (_line_contrast(density, tissue) > _DARKER) & tissue
    _, _, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    found = stats[1:]
    length = np.hypot(found[:, cv2.CC_STAT_WIDTH], found[:, cv2.CC_STAT_HEIGHT])
    return int(found[length >= _LENGTH, cv2.CC_STAT_AREA].sum())


def _line_contrast(density: Floats, tissue: NDArray[np.bool_]) -> Floats:
    """Density along the best line through each pixel over that beside it; 0 off tissue."""
    best = np.zeros(density.shape, np.float32)
    on = tissue.astype(np.float32)
    for kernel, aside in _lines():
        line, cover = _averaged(density, kernel), _averaged(on, kernel)
        beside = [_moved(line, aside), _moved(line, (-aside[0], -aside[1]))]
        covered = [_moved(cover, aside), _moved(cover, (-aside[0], -aside[1]))]
        contrast = line / np.maximum(np.maximum(*beside), _FAINTEST)
        contrast[(cover < _ON_TISSUE) | (np.minimum(*covered) < _BESIDE_TISSUE)] = 0
        best = np.maximum(best, contrast)
    return best


@functools.cache
def _lines() -> tuple[tuple[Floats, tuple[float, float]], ...]:
    """A line's kernel and the step to its side, for each direction."""
    middle = (_LINE + 3) // 2
    lines = []
    for angle in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (_LINE // 2)
        start, end = (tuple(np.rint(middle + side * reach).astype(int)) for side in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 2)
        step = (-float(np.sin(angle)) * _BREADTH, float(np.cos(angle)) * _BREADTH)
        lines.append((kernel / kernel.sum(), step))
    return tuple(lines)


def _averaged(image: Floats, kernel: Floats) -> Floats:
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)


def _moved(image: Floats, by: tuple[float, float]) -> Floats:
    shift = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, shift, size, borderMode=cv2.BORDER_REFLECT), np.float32)
