"""Where tissue lies double: dark lines, longer than any gland, on lighter tissue to both sides.

Ours. Each pixel's density is averaged along short lines in twelve directions and compared with
the same averages a fold's breadth to either side; the darker side counts, so that the edge of a
dense region is not a fold. The remaining pixels must be connected over most of a millimetre, and
have the colour of the tissue beside them: a strand of epithelium has more haematoxylin, which
absorbs red, and double tissue has more of every dye.
"""

import functools
from collections.abc import Iterator

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
# Strands of epithelium were seen from 1.112 on, folds up to 1.113: it cannot part all of them.
_REDDER = 1.111
_BESIDE = np.ones((21, 21), np.uint8)
_EDGE = np.ones((5, 5), np.uint8)

Floats = NDArray[np.float32]


def fold_mask(density: Floats, tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pixels of a tile are suspected to be fold: bool (128, 128).

    Args:
        density: float32 (128, 128, 3), optical density in R, G and B.
        tissue: bool (128, 128).
    """
    found = np.zeros(tissue.shape, np.bool_)
    if tissue.mean() < _ON_TISSUE * _LINE / LINES_SIDE**2:
        return found
    dark = (_line_contrast(density.sum(axis=2), tissue) > _DARKER) & tissue
    _, part, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    for number in np.flatnonzero(length >= _LENGTH):
        line = part == number
        if number > 0 and _reddening(density, line, tissue) < _REDDER:  # 0 is all that is not dark
            found |= line
    return found


def _reddening(density: Floats, line: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> float:
    """Contrast of a line with the tissue beside it in red, relative to that in green."""
    pixels = line.view(np.uint8)
    beside = (cv2.dilate(pixels, _BESIDE) > cv2.dilate(pixels, _EDGE)) & tissue
    if not beside.any():
        return 1.0
    contrast = density[line].mean(axis=0) / np.maximum(density[beside].mean(axis=0), _FAINTEST / 10)
    return float(contrast[0] / contrast[1])


def _line_contrast(density: Floats, tissue: NDArray[np.bool_]) -> Floats:
    """Density along the best line through each pixel over that beside it; 0 off tissue."""
    best = np.zeros(density.shape, np.float32)
    for line, (x, y) in zip(_line_averages(density, tissue), _sides(), strict=True):
        # Channel 0 is density, channel 1 the share of the line that is tissue.
        left, right = _moved(line, (x, y)), _moved(line, (-x, -y))
        beside = cv2.max(left[..., 0], right[..., 0])
        covered = cv2.min(left[..., 1], right[..., 1])
        contrast = line[..., 0] / np.maximum(beside, _FAINTEST)
        contrast[(line[..., 1] < _ON_TISSUE) | (covered < _BESIDE_TISSUE)] = 0
        cv2.max(best, contrast, dst=best)
    return best


def _line_averages(density: Floats, tissue: NDArray[np.bool_]) -> Iterator[Floats]:
    """Yield, for each direction, density and tissue averaged along lines: float32 (128, 128, 2).

    Both images are one complex image, which is transformed once for all directions.
    """
    both = np.dstack([density, tissue.astype(np.float32)])
    after = _TRANSFORMED - LINES_SIDE - _MIDDLE
    padded = cv2.copyMakeBorder(both, _MIDDLE, after, _MIDDLE, after, cv2.BORDER_REFLECT)
    spectrum = cv2.dft(padded)
    inside = slice(_MIDDLE, _MIDDLE + LINES_SIDE)
    for kernel in _kernel_spectra():
        product = cv2.mulSpectrums(spectrum, kernel, 0, conjB=True)
        line = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
        yield np.ascontiguousarray(line[inside, inside])


_MIDDLE = (_LINE + 3) // 2
_TRANSFORMED = cv2.getOptimalDFTSize(LINES_SIDE + 2 * _MIDDLE)


@functools.cache
def _kernel_spectra() -> tuple[Floats, ...]:
    """Return the spectrum of each direction's line: float32 (180, 180, 2), its middle at 0, 0."""
    spectra = []
    for angle in _angles():
        kernel = np.zeros((_TRANSFORMED, _TRANSFORMED), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (_LINE // 2)
        start, end = (tuple(np.rint(_MIDDLE + side * reach).astype(int)) for side in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 2)
        centred = np.roll(kernel / kernel.sum(), (-_MIDDLE, -_MIDDLE), axis=(0, 1))
        spectra.append(cv2.dft(centred, flags=cv2.DFT_COMPLEX_OUTPUT))
    return tuple(spectra)


@functools.cache
def _sides() -> tuple[tuple[float, float], ...]:
    """Return the step to a line's side, (x, y) in pixels, for each direction."""
    return tuple(
        (-float(np.sin(angle)) * _BREADTH, float(np.cos(angle)) * _BREADTH) for angle in _angles()
    )


def _angles() -> NDArray[np.float64]:
    return np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS


def _moved(image: Floats, by: tuple[float, float]) -> Floats:
    shift = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, shift, size, borderMode=cv2.BORDER_REFLECT), np.float32)
