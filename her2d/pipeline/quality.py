"""How good a scan is: focus, folds, pen marks, stain. Pure functions over the 4x tiles.

The paper excluded folded, blurred and marked slides by hand (section 4.1). Here each is measured,
slides beyond a limit are flagged for a person to look at, and the pixels that are spoilt are left
out of P, see `TileQuality.artefacts`.

Focus is the variance of the Laplacian (Pech-Pacheco et al. 2000), optical density is
-log10(I / I0) (Ruifrok and Johnston 2001). The limits are ours, from simulated slides with and
without artefacts and from two public Aperio slides: sharp tissue has a variance over 150 in 99 %
of its blocks, tissue blurred by three pixels one under 50.
"""

import functools
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import HeStain, Quality
from her2d.pipeline.fold_lines import LINES_SIDE
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.stains import (
    StainTally,
    TileStain,
    degrees_between,
    find_stain_problem,
    measure_colours,
)
from her2d.pipeline.tissue_folds import fold_mask, share

Image = NDArray[np.uint8]

_WHITE = 245.0
_TISSUE_SATURATION = 20
_SMALL_SIDE = 256
_BLOCK = 64
_BAND = 2 * _BLOCK
_BLOCK_TISSUE = 0.8
_INK_GREEN_OVER_RED = 12  # eosin and haematoxylin both absorb green the most: ink need not
_INK_CHROMA = 30
_BLACK_INK = 70
_FELT_TIP = np.ones((5, 5), np.uint8)
_FOCUS_BINS = 400
_FOCUS_DECADES = 5.0
_DEFAULTS = Quality()


@dataclass(frozen=True, slots=True)
class StainReference:
    """What tissue of the training cohort's slides looks like.

    Attributes:
        mean, std: over slides, of tissue's optical density in R, G and B.
        saturation: the same two of tissue's mean HSV saturation, None where it was not measured.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    saturation: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Beyond which a slide is flagged.

    Attributes:
        focus: variance of the Laplacian under which a block of tissue counts as blurred, and is
            left out of P.
        blurred_percent, tissue_fold_percent: of tissue.
        pen_percent: of the slide.
        stain: the bundle's reference, None where it has none: then no slide is an outlier.
        stain_deviations: from the reference, in the channel that is farthest.
        he: beyond which a slide is not stained with H&E.
    """

    focus: float = _DEFAULTS.focus
    blurred_percent: float = _DEFAULTS.blurred_percent
    tissue_fold_percent: float = _DEFAULTS.tissue_fold_percent
    pen_percent: float = _DEFAULTS.pen_percent
    stain: StainReference | None = None
    stain_deviations: float = _DEFAULTS.stain_deviations
    he: HeStain = field(default_factory=HeStain)


@dataclass(frozen=True, slots=True)
class TileQuality:
    """What one tile tells.

    Attributes:
        tissue, pen, fold: shares of the tile's area, 0 to 1.
        focus: float32 (B,), variance of the Laplacian of each 64-pixel block that is tissue.
        density: float64 (3,), optical density in R, G and B, summed over tissue and divided by
            the tile's area.
        saturation: HSV saturation (0..255), likewise.
        artefacts: bool (256, 256), pixels under a pen, in a fold or in a blurred block; None if
            there are none, as in most tiles, so that a waiting tile does not take more memory.
        colours: from which the slide's stain is told.
    """

    tissue: float
    pen: float
    fold: float
    focus: NDArray[np.float32]
    density: NDArray[np.float64]
    saturation: float
    artefacts: NDArray[np.bool_] | None
    colours: TileStain


def measure_tile(pixels: Image, limits: QualityLimits) -> TileQuality:
    """Measure a uint8 (512, 512, 3) RGB tile; white padding counts as glass."""
    small = shrunk(pixels, _SMALL_SIDE)
    pen = pen_mask(small)
    saturation = _saturation(small)
    tissue = (saturation > _TISSUE_SATURATION) & ~pen
    lines = shrunk(pixels, LINES_SIDE)
    lines_tissue = cv2.resize(tissue.astype(np.float32), (LINES_SIDE, LINES_SIDE)) > 0.5
    fold = fold_mask(optical_density(lines), lines_tissue)
    focus = _block_focus(pixels, tissue)
    return TileQuality(
        tissue=share(tissue),
        pen=share(pen),
        fold=share(fold),
        focus=focus[~np.isnan(focus)],
        density=_summed_density(small, tissue) / tissue.size,
        saturation=cv2.sumElems(cv2.multiply(saturation, tissue.view(np.uint8)))[0] / tissue.size,
        artefacts=_union(pen, fold, focus < limits.focus),
        colours=measure_colours(small, pen),
    )


def pen_mask(pixels: Image) -> NDArray[np.bool_]:
    """Where RGB pixels have a felt pen's colour and breadth: bool (H, W).

    Blue and green inks let green through better than red; black ink is dark without colour. Red
    ink looks like eosin and is not found.
    """
    red, green, blue = cv2.split(pixels)
    brightest = cv2.max(cv2.max(red, green), blue)
    chroma = brightest - cv2.min(cv2.min(red, green), blue)
    coloured = (cv2.subtract(green, red) >= _INK_GREEN_OVER_RED) & (chroma > _INK_CHROMA)
    black = (brightest < _BLACK_INK) & (chroma < _INK_CHROMA)
    ink = coloured | black
    if not ink.any():
        return ink
    return np.asarray(cv2.morphologyEx(ink.view(np.uint8), cv2.MORPH_OPEN, _FELT_TIP) > 0)


def optical_density(pixels: Image) -> NDArray[np.float32]:
    """-log10 of transmitted light, float32 of the same shape, 0 where nothing is absorbed."""
    return np.asarray(cv2.LUT(pixels, _density_table()), np.float32).reshape(pixels.shape)


def _summed_density(pixels: Image, tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Optical density of R, G and B summed over tissue: float64 (3,), from three histograms."""
    mask, values = tissue.view(np.uint8), _density_table().astype(np.float64)
    counts = [cv2.calcHist([pixels], [channel], mask, [256], [0, 256]) for channel in range(3)]
    return np.array([float(count.ravel() @ values) for count in counts])


@functools.cache
def _density_table() -> NDArray[np.float32]:
    light = np.maximum(np.arange(256), 1) / _WHITE
    return np.maximum(-np.log10(light), 0).astype(np.float32)


def _saturation(pixels: Image) -> Image:
    """HSV saturation of RGB pixels, uint8 (H, W) on OpenCV's 0..255 scale."""
    return np.asarray(cv2.extractChannel(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), 1), np.uint8)


def _block_focus(pixels: Image, tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Variance of the Laplacian of each block, NaN where it is not tissue: float32 (8, 8).

    Measured in bands, which fit into the processor's cache and whose memory is used again.
    """
    blocks = pixels.shape[0] // _BLOCK
    share = cv2.resize(tissue.astype(np.float32), (blocks, blocks), interpolation=cv2.INTER_AREA)
    bands = [_band_focus(pixels, top) for top in range(0, len(pixels), _BAND)]
    return np.where(share > _BLOCK_TISSUE, np.concatenate(bands), np.float32(np.nan))


def _band_focus(pixels: Image, top: int) -> NDArray[np.float32]:
    """Variance of the Laplacian of each block from row `top` on: float32 (2, 8)."""
    above = min(top, 1)
    grey = cv2.cvtColor(pixels[top - above : top + _BAND + 1], cv2.COLOR_RGB2GRAY)
    sharp = cv2.Laplacian(grey.astype(np.float32), cv2.CV_32F)[above : above + _BAND]
    rows, columns = (side // _BLOCK for side in sharp.shape)
    # Sums of integers that float32 holds, so that their order does not count; squares are larger.
    sums = np.add.reduce(sharp.reshape(rows, _BLOCK, -1), axis=1)
    mean = sums.reshape(rows, columns, _BLOCK).sum(axis=2) / np.float32(_BLOCK * _BLOCK)
    square = cv2.resize(sharp * sharp, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(square - mean * mean, np.float32)


def _union(*masks: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Join square masks of different sizes to one of 256 pixels a side; None if all are empty."""
    found = [_enlarged(mask, _SMALL_SIDE) for mask in masks if mask.any()]
    return np.logical_or.reduce(found) if found else None


def _enlarged(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    larger = cv2.resize(mask.view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    return larger.view(np.bool_)


def shrunk(pixels: Image, side: int) -> Image:
    """Average a square image, uint8 (H, H) or (H, H, 3), to `side` pixels along a side."""
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(slots=True)
class QualityTally:
    """Adds tiles up in memory that does not grow with the slide. One thread's at a time."""

    tissue: float = 0.0
    pen: float = 0.0
    fold: float = 0.0
    blurred_blocks: int = 0
    density: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    saturation: float = 0.0
    focus_bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_FOCUS_BINS, np.int64))
    stain: StainTally = field(default_factory=StainTally)

    def add(self, tile: TileQuality, limits: QualityLimits) -> None:
        """Count one tile."""
        self.tissue += tile.tissue
        self.pen += tile.pen
        self.fold += tile.fold
        self.density += tile.density
        self.saturation += tile.saturation
        self.stain.add(tile.colours)
        self.blurred_blocks += int((tile.focus < limits.focus).sum())
        place = np.log10(np.maximum(tile.focus, 1)) * (_FOCUS_BINS / _FOCUS_DECADES)
        bins = np.minimum(place.astype(np.int64), _FOCUS_BINS - 1)
        self.focus_bins += np.bincount(bins, minlength=_FOCUS_BINS)

    def finish(
        self,
        limits: QualityLimits,
        *,
        tile_mm2: float,
        slide_mm2: float,
        tumor_mm2: float,
        artefact_tumor_percent: float | None = None,
    ) -> SlideQuality:
        """Sum up, and flag what is beyond the limits.

        Args:
            limits: the ones every tile was counted with.
            tile_mm2, slide_mm2, tumor_mm2: areas of a whole tile, of the slide without padding,
                and of the tumour in it that counts.
            artefact_tumor_percent: see `SlideQuality`.
        """
        blocks = int(self.focus_bins.sum())
        blurred = 100 * self.blurred_blocks / blocks if blocks else None
        fold = 100 * self.fold / self.tissue if self.tissue else None
        pen = 100 * self.pen * tile_mm2 / slide_mm2
        density = self.density / self.tissue if self.tissue else None
        saturation = self.saturation / self.tissue if self.tissue else None
        red, green, blue = (None, None, None) if density is None else map(float, density)
        distance = _stain_distance(density, limits.stain)
        stain, he = self.stain.finish(tile_mm2=tile_mm2), limits.he
        return SlideQuality(
            tissue_mm2=self.tissue * tile_mm2,
            tumor_mm2=tumor_mm2,
            focus=self._median_focus() if blocks else None,
            blurred_percent=blurred,
            tissue_fold_percent=fold,
            pen_percent=pen,
            artefact_tumor_percent=artefact_tumor_percent,
            stain_red=red,
            stain_green=green,
            stain_blue=blue,
            stain_distance=distance,
            saturation=saturation,
            saturation_distance=_saturation_distance(saturation, limits.stain),
            blurred=(blurred or 0) > limits.blurred_percent,
            folded=(fold or 0) > limits.tissue_fold_percent,
            pen_marked=pen > limits.pen_percent,
            stain_outlier=(distance or 0) > limits.stain_deviations,
            stained_mm2=stain.stained_mm2,
            ink_percent=stain.ink_percent,
            brown_percent=stain.brown_percent,
            foreign_percent=stain.foreign_percent,
            pink_percent=stain.pink_percent,
            hematoxylin_degrees=degrees_between(stain.hematoxylin, he.hematoxylin),
            eosin_degrees=degrees_between(stain.eosin, he.eosin),
            stain_problem=find_stain_problem(stain, he, has_tumor=tumor_mm2 > 0),
        )

    def _median_focus(self) -> float:
        """From a histogram of 80 bins a decade: within 3 %."""
        seen = np.cumsum(self.focus_bins)
        middle = int(np.searchsorted(seen, (seen[-1] + 1) // 2))
        return float(10 ** ((middle + 0.5) * _FOCUS_DECADES / _FOCUS_BINS))


def _stain_distance(
    density: NDArray[np.float64] | None, reference: StainReference | None
) -> float | None:
    if density is None or reference is None:
        return None
    return float(np.max(np.abs(density - reference.mean) / reference.std))


def _saturation_distance(
    saturation: float | None, reference: StainReference | None
) -> float | None:
    if saturation is None or reference is None or reference.saturation is None:
        return None
    mean, std = reference.saturation
    return abs(saturation - mean) / std
