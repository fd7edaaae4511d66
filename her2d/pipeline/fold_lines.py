"""Averages of a tile along short lines in twelve directions, and along the lines beside those.

Lines are averaged by a Fourier transform: twelve lines of 41 by 3 pixels would be as many
convolutions. A picture is mirrored at its border, so that the transform's own wrapping stays
outside.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LINES_SIDE = 128
"""Pixels along a tile's side that folds are looked for at: 10 um each."""

LINE = 41
DIRECTIONS = 12

_BREADTH = 8.0
_MARGIN = int(_BREADTH) + 1
_PARTS = 32  # of a pixel, to which a place between four pixels is rounded
_MIDDLE = (LINE + 3) // 2
_INSIDE = slice(_MIDDLE, _MIDDLE + LINES_SIDE)
_TRANSFORMED = cv2.getOptimalDFTSize(LINES_SIDE + 2 * _MIDDLE)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


def spectrum_of(both: Floats) -> Floats:
    """Return the spectrum of two pictures, float32 (128, 128, 2), as that of one complex one."""
    after = _TRANSFORMED - LINES_SIDE - _MIDDLE
    return np.asarray(
        cv2.dft(cv2.copyMakeBorder(both, _MIDDLE, after, _MIDDLE, after, cv2.BORDER_REFLECT)),
        np.float32,
    )


def averages(spectrum: Floats, direction: int) -> Floats:
    """Return two pictures averaged along the lines of a direction: float32 (128, 128, 2).

    Args:
        spectrum: theirs, see `spectrum_of`.
        direction: its number, below DIRECTIONS.
    """
    product = cv2.mulSpectrums(spectrum, _line_spectra()[direction], 0, conjB=True)
    lines = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
    return np.ascontiguousarray(lines[_INSIDE, _INSIDE])


def averages_of_pair(spectrum: Floats, pair: int) -> tuple[Floats, Floats]:
    """Return a picture averaged in the directions 2 * pair and 2 * pair + 1, in the time of one.

    They differ from those of `averages` by the rounding of float32.

    Args:
        spectrum: of the picture and one that is 0 everywhere, see `spectrum_of`.
        pair: which two directions.
    """
    product = spectrum.view(np.complex64) * _pair_spectra()[pair]
    lines = cv2.dft(product.view(np.float32), flags=cv2.DFT_INVERSE)[_INSIDE, _INSIDE]
    one, other = (np.asarray(cv2.extractChannel(lines, part), np.float32) for part in range(2))
    return one, other


def beside(lines: Floats, direction: int, where: Mask) -> tuple[Floats, Floats]:
    """Return the averages a fold's breadth to both sides of some pixels: two of float32 (N, 2).

    Args:
        lines: see `averages`.
        direction: its number.
        where: bool (128, 128), the N pixels.
    """
    around = _with_margin(lines)
    flat, width = around.reshape(-1, around.shape[2]), around.shape[1]
    rows, columns = np.nonzero(where)
    left, right = (
        _interpolated(flat, (rows + side.row) * width + columns + side.column, width, side.weights)
        for side in _sides()[direction]
    )
    return left, right


def extremes_beside(extreme: np.ufunc, line: Floats, direction: int) -> tuple[Floats, Floats]:
    """Return bounds of what `beside` returns, for every pixel: two of float32 (128, 128).

    Args:
        extreme: np.minimum or np.maximum, of the four pixels that are interpolated between.
        line: one picture, averaged along the lines of a direction.
        direction: its number.
    """
    around = _with_margin(line)
    pairs = extreme(around[:-1], around[1:])
    of_four = extreme(pairs[:, :-1], pairs[:, 1:])
    left, right = (
        of_four[side.row : side.row + LINES_SIDE, side.column : side.column + LINES_SIDE]
        for side in _sides()[direction]
    )
    return left, right


def _with_margin(image: Floats) -> Floats:
    margins = (_MARGIN, _MARGIN, _MARGIN, _MARGIN)
    return np.asarray(cv2.copyMakeBorder(image, *margins, cv2.BORDER_REFLECT), np.float32)


def _interpolated(flat: Floats, places: Places, width: int, weights: "_Weights") -> Floats:
    # The order of the sum decides the last bit.
    upper_left, upper_right, lower_left, lower_right = weights
    values = flat[places] * upper_left
    values += flat[places + 1] * upper_right
    values += flat[places + width] * lower_left
    values += flat[places + width + 1] * lower_right
    return values


_Weights = tuple[np.float32, np.float32, np.float32, np.float32]


@dataclass(frozen=True, slots=True)
class _Side:
    """Where a line's neighbour is.

    Attributes:
        row, column: of the upper left of four pixels, in a picture with a margin.
        weights: of the four pixels, row by row.
    """

    row: int
    column: int
    weights: _Weights


@functools.cache
def _sides() -> tuple[tuple[_Side, _Side], ...]:
    """Return both sides of each direction's lines."""
    steps = [(-float(np.sin(a)) * _BREADTH, float(np.cos(a)) * _BREADTH) for a in _angles()]
    return tuple((_side(-x, -y), _side(x, y)) for x, y in steps)


def _side(x: float, y: float) -> _Side:
    (column, right), (row, lower) = (divmod(round(step * _PARTS), _PARTS) for step in (x, y))
    upper, left = _PARTS - lower, _PARTS - right
    weights = (
        np.float32(upper * left / _PARTS**2),
        np.float32(upper * right / _PARTS**2),
        np.float32(lower * left / _PARTS**2),
        np.float32(lower * right / _PARTS**2),
    )
    return _Side(_MARGIN + row, _MARGIN + column, weights)


def _angles() -> NDArray[np.float64]:
    return np.pi * np.arange(DIRECTIONS) / DIRECTIONS


@functools.cache
def _line_spectra() -> tuple[Floats, ...]:
    """Return the spectrum of each direction's line: float32 (180, 180, 2), its middle at 0, 0."""
    spectra = []
    for angle in _angles():
        kernel = np.zeros((_TRANSFORMED, _TRANSFORMED), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (LINE // 2)
        start, end = (tuple(np.rint(_MIDDLE + side * reach).astype(int)) for side in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 2)
        centred = np.roll(kernel / kernel.sum(), (-_MIDDLE, -_MIDDLE), axis=(0, 1))
        spectra.append(cv2.dft(centred, flags=cv2.DFT_COMPLEX_OUTPUT))
    return tuple(spectra)


@functools.cache
def _pair_spectra() -> tuple[NDArray[np.complex64], ...]:
    """Return the spectra of two lines as one: complex64 (180, 180, 1), scaled for the inverse.

    A picture is real, so that its averages along one line become the real part, and those along
    the other the imaginary one.
    """
    lines = [spectrum.view(np.complex64).conj() for spectrum in _line_spectra()]
    scale = np.float32(1 / _TRANSFORMED**2)
    return tuple(
        (one + 1j * other).astype(np.complex64) * scale
        for one, other in zip(lines[::2], lines[1::2], strict=True)
    )
