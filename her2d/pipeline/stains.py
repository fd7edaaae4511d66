"""Tell H&E from every other stain by the colours of the stained tissue. Pure functions.

The networks know haematoxylin and eosin only, and call a slide of another stain all the same. Each
dye has a direction of optical density in R, G and B, its stain vector, which its amount does not
change (Ruifrok and Johnston 2001), so that two dyes can only mix the directions between theirs.
Here colours are counted per slide; when its last tile is known, light is related to the slide's
glass, and each colour is put into one of these classes by its shares of red, green
and blue in the optical density:

- brown: blue is absorbed about as much as green, or more, as by DAB;
- foreign: green is not absorbed most, as both haematoxylin and eosin do. Brown is foreign too;
- pink: red is absorbed so little that eosin has a good part in it.

Immunohistochemistry with a strong reaction is brown, and with a weak one it lacks pink, since its
counterstain is haematoxylin alone. The slide's two stain vectors are the means of the most extreme
directions of what is not foreign, as in Macenko et al. (2009), but by the share of red instead of
the angle in a plane: a slide with one dye has no plane.

The classes and the default limits are ours, from real pictures of H&E and of immunohistochemistry,
and from simulated slides of these and other stains; docs/explanation/stains.md has the table.
Stains whose colours lie between those of haematoxylin and eosin, such as PAS and Fast Red, cannot
be told from H&E in this way.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import HeStain, StainVector

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_STEP = 2  # of the pixels of a picture, every second one along each side is counted
_BITS = 6
_LEVELS = 1 << _BITS
_COLOURS = _LEVELS**3
_DROPPED_BITS = 8 - _BITS

_GLASS_FALLBACK = 245.0  # glass on most scanners; used where a slide shows too little glass
_DARKEST_GLASS = 44  # levels, as all of these
_GLASS_TINT = 5
_GLASS_PEAK = 3
_GLASS_SHARE = 0.05  # of all pixels
_GLASS_PEAK_SHARE = 0.5  # of what may be glass: pale tissue has no peak

_LEAST_DENSITY = 0.15  # summed over R, G and B
_LEAST_CONTRAST = 0.035  # between R, G and B; grey is dirt, or the shadow at an edge
_BROWN_BLUE_TO_GREEN = 0.9
_FOREIGN_GREEN = 0.36
_PINK_RED = 0.28
_PINK_GREEN = 0.42

_EXTREME_SHARE = 0.05
_FEWEST_PIXELS = 50
_NOTABLE_BROWN_PERCENT = 10.0
_INKED_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class TileStain:
    """The colours of one tile that are not a pen's.

    Attributes:
        colours: int64 (N,), each once.
        pixels: int64 (N,), how many of the counted pixels have each.
        ink: how many of the counted pixels are a pen's.
        counted: pixels that were looked at.
    """

    colours: NDArray[np.int64]
    pixels: NDArray[np.int64]
    ink: int
    counted: int


@dataclass(frozen=True, slots=True)
class SlideStain:
    """The stain of a slide; shares are of its stained tissue, and None without any.

    Attributes:
        stained_mm2: area of stained tissue, without a pen's ink.
        ink_percent: of all that is stained, ink included.
        brown_percent, foreign_percent, pink_percent: see this module.
        hematoxylin, eosin: unit vectors; None if nearly all is foreign.
    """

    stained_mm2: float = 0.0
    ink_percent: float | None = None
    brown_percent: float | None = None
    foreign_percent: float | None = None
    pink_percent: float | None = None
    hematoxylin: StainVector | None = None
    eosin: StainVector | None = None


def measure_colours(pixels: Image, pen: Mask) -> TileStain:
    """Count the colours of a tile.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        pen: bool (H, W), where it is a pen's ink.
    """
    size = (pen.shape[1] // _STEP, pen.shape[0] // _STEP)
    # The nearest pixel is the first of each step.
    counted, ink = (
        cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
        for image in (pixels, pen.view(np.uint8))
    )
    counts = cv2.calcHist([counted], [0, 1, 2], 1 - ink, [_LEVELS] * 3, [0, 256] * 3).ravel()
    colours = np.flatnonzero(counts != 0)
    return TileStain(
        colours, counts[colours].astype(np.int64), int(np.count_nonzero(ink)), ink.size
    )


@dataclass(slots=True)
class StainTally:
    """Adds the colours of tiles up, in 2 MB. One thread's at a time."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_COLOURS, np.int64))
    ink: int = 0
    counted: int = 0
    tiles: int = 0

    def add(self, tile: TileStain) -> None:
        """Count one tile."""
        self.pixels[tile.colours] += tile.pixels
        self.ink += tile.ink
        self.counted += tile.counted
        self.tiles += 1

    def finish(self, *, tile_mm2: float) -> SlideStain:
        """Sum up.

        Args:
            tile_mm2: area of a tile.
        """
        colours = np.flatnonzero(self.pixels)
        pixels = self.pixels[colours]
        density = np.maximum(np.log10(_glass(colours, pixels) / _light(colours)), 0)
        stained = _is_stained(density)
        total = int(pixels[stained].sum())
        if total == 0:
            return SlideStain(ink_percent=100.0 if self.ink else None)
        stained_mm2 = tile_mm2 * self.tiles * total / self.counted
        return _summed_up(density[stained], pixels[stained], self.ink, stained_mm2)


def find_stain_problem(found: SlideStain, limits: HeStain, *, has_tumor: bool) -> str | None:
    """Return why a slide is not, or may not be, stained with H&E, in one sentence; None if it is.

    Args:
        found: its stain.
        limits: the bundle's.
        has_tumor: whether tumour was found. A slide without tumour is not called anyway, so one
            with little stained tissue is not suspected.
    """
    if found.stained_mm2 < limits.stained_mm2:
        return _too_little(found, limits) if has_tumor else None
    return _other_stain(found, limits)


def degrees_between(one: StainVector | None, other: StainVector) -> float | None:
    """Return the angle between two stain vectors; None without the first one."""
    if one is None:
        return None
    a, b = np.array(one), np.array(other)
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.degrees(np.arccos(min(1.0, max(-1.0, cosine)))))


def _too_little(found: SlideStain, limits: HeStain) -> str:
    return (
        f"The stain cannot be told: {found.stained_mm2:.2f} mm2 of tissue is stained, and"
        f" {limits.stained_mm2:g} mm2 are needed."
    )


def _other_stain(found: SlideStain, limits: HeStain) -> str | None:
    is_pink = (found.pink_percent or 0) >= limits.pink_percent
    is_foreign = (found.foreign_percent or 0) > limits.foreign_percent
    if (not is_pink or is_foreign) and (found.brown_percent or 0) >= _NOTABLE_BROWN_PERCENT:
        return (
            f"The slide is not stained with H&E: {found.brown_percent:.0f} % of its tissue is"
            " brown, as in immunohistochemistry."
        )
    if not is_pink:
        return (
            f"The slide is not stained with H&E: {found.pink_percent or 0:.1f} % of its tissue is"
            f" pink, and with eosin it is at least {limits.pink_percent:g} %."
        )
    if is_foreign:
        return (
            f"The slide is not stained with H&E: {found.foreign_percent:.0f} % of its tissue has"
            " colours that haematoxylin and eosin cannot mix."
        )
    return (
        _blue_dye(found, limits)
        or _turned_vector("haematoxylin", found.hematoxylin, limits.hematoxylin, limits)
        or _turned_vector("eosin", found.eosin, limits.eosin, limits)
    )


def _blue_dye(found: SlideStain, limits: HeStain) -> str | None:
    # A blue pen's ink over pink tissue looks like a blue dye too.
    if found.hematoxylin is None or (found.ink_percent or 0) >= _INKED_PERCENT:
        return None
    red, green, _ = found.hematoxylin
    if red <= limits.red_to_green * green:
        return None
    return (
        "The slide is not stained with H&E: one of its dyes is a purer blue than haematoxylin, as"
        " in Giemsa's stain and in trichromes."
    )


def _turned_vector(
    dye: str, vector: StainVector | None, reference: StainVector, limits: HeStain
) -> str | None:
    degrees = degrees_between(vector, reference)
    if degrees is None or degrees <= limits.degrees:
        return None
    return (
        f"The slide is not stained with H&E as the bundle knows it: the colour of its {dye} is"
        f" {degrees:.0f} degrees from the reference, and {limits.degrees:g} are allowed."
    )


def _summed_up(
    density: NDArray[np.float64], pixels: NDArray[np.int64], ink: int, stained_mm2: float
) -> SlideStain:
    total = int(pixels.sum())
    share = density / density.sum(axis=1, keepdims=True)
    red, green, blue = share.T
    brown = blue > _BROWN_BLUE_TO_GREEN * green
    foreign = brown | (green < _FOREIGN_GREEN)
    pink = (red < _PINK_RED) & (green > _PINK_GREEN) & ~foreign
    hematoxylin, eosin = _vectors(share[~foreign], pixels[~foreign])

    def percent(which: Mask) -> float:
        return 100 * int(pixels[which].sum()) / total

    return SlideStain(
        stained_mm2=stained_mm2,
        ink_percent=100 * ink / (ink + total),
        brown_percent=percent(brown),
        foreign_percent=percent(foreign),
        pink_percent=percent(pink),
        hematoxylin=hematoxylin,
        eosin=eosin,
    )


def _vectors(
    share: NDArray[np.float64], pixels: NDArray[np.int64]
) -> tuple[StainVector, StainVector] | tuple[None, None]:
    """Return the mean directions of the pixels that absorb red most and least."""
    if pixels.sum() < _FEWEST_PIXELS:
        return None, None
    order = np.argsort(share[:, 0], kind="stable")
    directions = share[order] / np.linalg.norm(share[order], axis=1, keepdims=True)
    counts = pixels[order]
    # A colour that lies across the limit counts with the part of its pixels inside.
    wanted = _EXTREME_SHARE * counts.sum()
    before = np.cumsum(counts) - counts
    least = np.clip(wanted - before, 0, counts)
    most = np.clip(before + counts - (counts.sum() - wanted), 0, counts)
    return _mean_direction(directions, most), _mean_direction(directions, least)


def _mean_direction(directions: NDArray[np.float64], weights: NDArray[np.float64]) -> StainVector:
    mean = weights @ directions
    red, green, blue = (float(value) for value in mean / np.linalg.norm(mean))
    return red, green, blue


def _is_stained(density: NDArray[np.float64]) -> Mask:
    contrast = density.max(axis=1) - density.min(axis=1)
    return np.asarray((density.sum(axis=1) > _LEAST_DENSITY) & (contrast > _LEAST_CONTRAST))


def _glass(colours: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the light of the slide's glass in R, G and B, from its peak among pale colours."""
    levels = _levels(colours)
    lowest, highest = levels.min(axis=1), levels.max(axis=1)
    # The highest level of all three is also the padding around a scan.
    pale = (lowest >= _DARKEST_GLASS) & (highest - lowest <= _GLASS_TINT) & (lowest < _LEVELS - 1)
    candidates, brightness = np.where(pale, pixels, 0), levels.sum(axis=1)
    fallback = np.full(3, _GLASS_FALLBACK)
    if not candidates.any():
        return fallback
    counts = np.bincount(brightness, weights=candidates)
    peak = int(np.convolve(counts, np.ones(2 * _GLASS_PEAK - 1), "same").argmax())
    near = np.where(np.abs(brightness - peak) <= _GLASS_PEAK, candidates, 0)
    is_peak = near.sum() >= _GLASS_PEAK_SHARE * candidates.sum()
    if not is_peak or near.sum() < _GLASS_SHARE * pixels.sum():
        return fallback
    return np.asarray(near @ _light(colours) / near.sum())


def _levels(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the levels of each colour in R, G and B: int64 (N, 3)."""
    return np.stack([colours >> 2 * _BITS, (colours >> _BITS) % _LEVELS, colours % _LEVELS], 1)


def _light(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean light of each colour in R, G and B, from 1.5 to 253.5: float64 (N, 3)."""
    width = 1 << _DROPPED_BITS
    return np.asarray(_levels(colours) * width + (width - 1) / 2, np.float64)
