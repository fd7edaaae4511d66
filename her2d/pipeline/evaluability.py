"""Decide, before any call, whether a slide can be called at all.

The paper excluded slides by hand (section 4.1). A slide with an obstacle is indeterminate, with a
code for programs and a sentence for people, and has neither P nor an interval.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from her2d.bundle.manifest import Decision, Quality
from her2d.method import THRESHOLD
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.tile_counts import TileCounts
from her2d.slides.scale import ScaleDoubt


class ReasonCode(StrEnum):
    """Why a slide has no call."""

    NOT_HE = "not-he"
    NO_TUMOR = "no-tumor"
    TOO_LITTLE_TUMOR = "too-little-tumor"
    UNREADABLE = "unreadable"
    BLURRED = "blurred"
    FOLDED = "folded"
    PEN_MARKED = "pen-marked"
    WRONG_SCALE = "wrong-scale"
    TOO_MUCH_TUMOR = "too-much-tumor"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why a slide cannot be called.

    Attributes:
        code: for filters, metrics and other programs.
        sentence: for people.
    """

    code: ReasonCode
    sentence: str


@dataclass(frozen=True, slots=True)
class EvaluableLimits:
    """The limits beyond which a slide is not called, from the bundle's manifest.

    Attributes:
        min_tumor_mm2: area of tumour in tumour tiles from which a slide is called.
        min_tumor_tiles: number of tumour tiles from which a slide is called.
        max_blurred_percent, max_tissue_fold_percent: of tissue, up to which a slide is called.
        max_pen_percent: of the slide, likewise.
    """

    min_tumor_mm2: float = Decision().min_tumor_mm2
    min_tumor_tiles: int = Decision().min_tumor_tiles
    max_blurred_percent: float = Quality().max_blurred_percent
    max_tissue_fold_percent: float = Quality().max_tissue_fold_percent
    max_pen_percent: float = Quality().max_pen_percent


@dataclass(frozen=True, slots=True)
class UnreadTiles:
    """The tiles of a slide that could not be read.

    Attributes:
        tiles: their number.
        pixels: pixels of the scan in those that may be tumour tiles.
    """

    tiles: int = 0
    pixels: int = 0


def find_obstacle(
    counts: TileCounts,
    quality: SlideQuality,
    unread: UnreadTiles,
    limits: EvaluableLimits,
    *,
    scale: ScaleDoubt | None = None,
    threshold: float = THRESHOLD,
) -> Obstacle | None:
    """Return the first reason why a slide cannot be called; None if it can be.

    Args:
        counts: the slide's tumour tiles.
        quality: how good the scan is, its stain, and the area of its tumour.
        unread: its tiles that could not be read.
        limits: the bundle's.
        scale: why the scan's scale is doubtful; None if it is not.
        threshold: P from which a slide is positive, as a decimal number.
    """
    tiles = len(counts.strong)
    could_change = unread_could_change_call(counts, unread.pixels, threshold)
    return _first_obstacle(tiles, quality, unread, limits, scale, could_change=could_change)


def find_bag_obstacle(
    tiles: int,
    quality: SlideQuality,
    unread: UnreadTiles,
    limits: EvaluableLimits,
    *,
    scale: ScaleDoubt | None,
    most_tiles: int,
) -> Obstacle | None:
    """Return the first reason why a slide cannot be called as a whole; None if it can be.

    Args:
        tiles: number of its tumour tiles.
        quality, unread, limits, scale: as for `find_obstacle`.
        most_tiles: how many tumour tiles the bundle weighs.
    """
    could_change = unread_could_change_weights(unread)
    found = _first_obstacle(tiles, quality, unread, limits, scale, could_change=could_change)
    if found is None and tiles > most_tiles:
        return Obstacle(
            ReasonCode.TOO_MUCH_TUMOR,
            f"The slide has {_tiles(tiles)} with tumour, and the bundle weighs at most"
            f" {most_tiles}.",
        )
    return found


def _first_obstacle(
    tiles: int,
    quality: SlideQuality,
    unread: UnreadTiles,
    limits: EvaluableLimits,
    scale: ScaleDoubt | None,
    *,
    could_change: bool,
) -> Obstacle | None:
    # Artefacts hide tumour: they come before too little of it.
    return (
        _not_he(quality)
        or _wrong_scale(scale)
        or _too_little_read(tiles, unread, could_change=could_change)
        or _too_much_spoilt(quality, limits)
        or _too_little_tumor(tiles, quality, limits)
    )


def _not_he(quality: SlideQuality) -> Obstacle | None:
    # What the networks found on another stain than theirs says nothing, not even about tumour.
    if quality.stain_problem is None:
        return None
    return Obstacle(ReasonCode.NOT_HE, quality.stain_problem)


def _wrong_scale(scale: ScaleDoubt | None) -> Obstacle | None:
    # Before what is counted, because at a wrong scale no number of tiles or pixels means anything.
    if scale is None or not scale.is_wrong:
        return None
    return Obstacle(ReasonCode.WRONG_SCALE, scale.remark)


def _too_little_read(tiles: int, unread: UnreadTiles, *, could_change: bool) -> Obstacle | None:
    if tiles == 0 and unread.tiles:
        return Obstacle(
            ReasonCode.UNREADABLE,
            f"No tumour was found, but {_tiles(unread.tiles)} could not be read.",
        )
    if could_change:
        return Obstacle(
            ReasonCode.UNREADABLE,
            f"{_tiles(unread.tiles)} could not be read: what is there could change the call.",
        )
    return None


def _too_much_spoilt(quality: SlideQuality, limits: EvaluableLimits) -> Obstacle | None:
    for code, found, most, what in (
        (
            ReasonCode.BLURRED,
            quality.blurred_percent,
            limits.max_blurred_percent,
            "of the tissue is out of focus",
        ),
        (
            ReasonCode.FOLDED,
            quality.tissue_fold_percent,
            limits.max_tissue_fold_percent,
            "of the tissue is folded",
        ),
        (
            ReasonCode.PEN_MARKED,
            quality.pen_percent,
            limits.max_pen_percent,
            "of the slide is under ink",
        ),
    ):
        if found is not None and found > most:
            return Obstacle(code, f"{found:.1f} % {what}, and a call needs at most {most:g} %.")
    return None


def _too_little_tumor(
    tiles: int, quality: SlideQuality, limits: EvaluableLimits
) -> Obstacle | None:
    tumor_mm2 = quality.tumor_mm2
    if tiles == 0 and quality.artefact_tumor_percent:
        return Obstacle(
            ReasonCode.NO_TUMOR,
            "No tumour was found in any tile but what is out of focus, folded or under ink.",
        )
    if tiles == 0:
        return Obstacle(ReasonCode.NO_TUMOR, "No tumour was found in any tile.")
    if tiles < limits.min_tumor_tiles:
        return Obstacle(
            ReasonCode.TOO_LITTLE_TUMOR,
            f"Too little tumour was found: {_tiles(tiles)}, and a call needs"
            f" {limits.min_tumor_tiles}.",
        )
    if tumor_mm2 < limits.min_tumor_mm2:
        return Obstacle(
            ReasonCode.TOO_LITTLE_TUMOR,
            f"Too little tumour was found: {tumor_mm2:.2f} mm2, and a call needs"
            f" {limits.min_tumor_mm2:g} mm2.",
        )
    return None


def unread_could_change_call(
    counts: TileCounts, unreadable_pixels: int, threshold: float = THRESHOLD
) -> bool:
    """Return whether unread pixels could put the slide on the other side of the threshold.

    They could, if the call differs between two cases: all of them are strong tumour, and all of
    them are weak tumour. Without any tumour tile that could be read, every status is possible.

    Args:
        counts: the slide's tumour tiles.
        unreadable_pixels: pixels of the scan that could not be read and may be tumour.
        threshold: P from which a slide is positive, as a decimal number.
    """
    if unreadable_pixels == 0:
        return False
    limit = Fraction(str(threshold))
    total = counts.total + unreadable_pixels
    least = Fraction(counts.strong_total, total)
    most = Fraction(counts.strong_total + unreadable_pixels, total)
    return (least >= limit) != (most >= limit)


def unread_could_change_weights(unread: UnreadTiles) -> bool:
    """Return whether unread tiles could change a call that weighs a slide's tiles by attention.

    One tile can have all the weight, so any that may be a tumour tile could.
    """
    return unread.pixels > 0


def _tiles(number: int) -> str:
    return "1 tile" if number == 1 else f"{number} tiles"
