"""Where tissue lies double: dark lines, longer than any gland, on lighter tissue to both sides.

Ours. Each pixel's density is averaged along short lines in twelve directions and compared with
the same averages a fold's breadth to either side; the darker side counts, so that the edge of a
dense region is not a fold. The remaining pixels must be connected over most of a millimetre, and
have the colour of the tissue beside them: a strand of epithelium has more haematoxylin, which
absorbs red, and double tissue has more of every dye.

Most tiles have no fold, and a cheap upper bound of the contrast proves it: it leaves out whether
lines lie on tissue, and takes the least of the four pixels that a value to the side is
interpolated from. What it leaves is measured in full, so that the answer does not depend on it.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.pipeline.fold_lines import (
    DIRECTIONS,
    LINE,
    LINES_SIDE,
    Floats,
    averages,
    averages_of_pair,
    beside,
    extremes_beside,
    spectrum_of,
)

_DARKER = 1.25
_LENGTH = 60.0
_ON_TISSUE = 0.9
_BESIDE_TISSUE = 0.7
_FAINTEST = 0.1
# Strands of epithelium were seen from 1.112 on, folds up to 1.113: it cannot part all of them.
_REDDER = 1.111
_BESIDE = np.ones((21, 21), np.uint8)
_EDGE = np.ones((5, 5), np.uint8)

# Of the averages, 1e-5 at most where they are 0.1 to 7, in both the bound and the full measure.
_ROUNDING = 1e-3

Mask = NDArray[np.bool_]


def fold_mask(density: Floats, tissue: Mask) -> Mask:
    """Return which pixels of a tile are suspected to be fold: bool (128, 128).

    Args:
        density: float32 (128, 128, 3), optical density in R, G and B.
        tissue: bool (128, 128).
    """
    found = np.zeros(tissue.shape, np.bool_)
    if share(tissue) < _ON_TISSUE * LINE / LINES_SIDE**2:
        return found
    summed = density[..., 0] + density[..., 1] + density[..., 2]
    dark = _long_dark_lines(summed, tissue)
    for line in () if dark is None else _long_parts(dark & tissue):
        if _reddening(density, line, tissue) < _REDDER:
            found |= line
    return found


def share(mask: Mask) -> float:
    """Return which share of a mask is set."""
    return int(np.count_nonzero(mask)) / mask.size


def _long_dark_lines(density: Floats, tissue: Mask) -> Mask | None:
    """Return where tissue is darker than beside it, in all parts that are long; None if none is."""
    possible = _in_long_parts(
        {number: mask & tissue for number, mask in enumerate(possible_lines(density))}
    )
    if not possible:
        return None
    spectrum = spectrum_of(np.dstack([density, tissue.astype(np.float32)]))
    lines = {number: averages(spectrum, number) for number in possible}
    on_tissue = {n: mask & _may_lie_on_tissue(lines[n], n) for n, mask in possible.items()}
    possible = _in_long_parts(on_tissue)
    dark = {number: dark_lines(lines[number], number, mask) for number, mask in possible.items()}
    return _union(dark.values())


def possible_lines(density: Floats) -> Iterator[Mask]:
    """Yield for each direction where `dark_lines` may find lines: bool (128, 128).

    All that it finds is among them, on tissue and beside it.

    Args:
        density: float32 (128, 128), summed over R, G and B.
    """
    spectrum = spectrum_of(np.dstack([density, np.zeros_like(density)]))
    for pair in range(DIRECTIONS // 2):
        for number, line in enumerate(averages_of_pair(spectrum, pair), 2 * pair):
            least = np.maximum(np.maximum(*extremes_beside(np.minimum, line, number)), _FAINTEST)
            yield line > least * (_DARKER - _ROUNDING)


def _may_lie_on_tissue(line: Floats, number: int) -> Mask:
    """Return where a direction's line and those beside it may lie on enough tissue."""
    tissue = np.ascontiguousarray(line[..., 1])
    covered = np.minimum(*extremes_beside(np.maximum, tissue, number))
    return (tissue >= _ON_TISSUE) & (covered > _BESIDE_TISSUE - _ROUNDING)


def dark_lines(line: Floats, number: int, where: Mask) -> Mask:
    """Return which pixels lie on a line of tissue that is darker than those beside it.

    Args:
        line: density and tissue, averaged along the lines of a direction: float32 (128, 128, 2).
        number: the direction's.
        where: bool (128, 128), the pixels to look at.
    """
    on, (left, right) = line[where], beside(line, number, where)
    density = np.maximum(np.maximum(left[:, 0], right[:, 0]), _FAINTEST)
    covered = np.minimum(left[:, 1], right[:, 1])
    dark = np.zeros(where.shape, np.bool_)
    dark[where] = (
        (on[:, 0] / density > _DARKER) & (on[:, 1] >= _ON_TISSUE) & (covered >= _BESIDE_TISSUE)
    )
    return dark


def _in_long_parts(possible: dict[int, Mask]) -> dict[int, Mask]:
    """Return what lies in parts as long as a fold, of the directions that have some of it."""
    joined = _union(possible.values())
    long = None if joined is None else _union(_long_parts(joined))
    if long is None:
        return {}
    inside = {number: mask & long for number, mask in possible.items()}
    return {number: mask for number, mask in inside.items() if mask.any()}


def _long_parts(mask: Mask) -> Iterator[Mask]:
    """Yield the connected parts of a mask that are as long as a fold."""
    if np.count_nonzero(mask) < _LENGTH / 2:  # along a diagonal, each pixel is 1.4 long
        return
    _, part, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    for number in np.flatnonzero(length >= _LENGTH):
        if number > 0:  # 0 is all that is not in the mask
            yield part == number


def _union(masks: Iterable[Mask]) -> Mask | None:
    joined = None
    for mask in masks:
        joined = mask if joined is None else joined | mask
    return joined


def _reddening(density: Floats, line: Mask, tissue: Mask) -> float:
    """Contrast of a line with the tissue beside it in red, relative to that in green."""
    pixels = line.view(np.uint8)
    beside = (cv2.dilate(pixels, _BESIDE) > cv2.dilate(pixels, _EDGE)) & tissue
    if not beside.any():
        return 1.0
    contrast = density[line].mean(axis=0) / np.maximum(density[beside].mean(axis=0), _FAINTEST / 10)
    return float(contrast[0] / contrast[1])
