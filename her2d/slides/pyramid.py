"""Find the images of a file that form its pyramid, and the level from which 4x is made.

A whole-slide file holds pyramid levels, in any order, beside a thumbnail, a label and a macro
photograph of the glass, some of them unnamed. Levels have the aspect ratio, the block layout and
the sample format of level 0. Associated images are recognised by their description, by their
NewSubfileType (tag 254), or by strips where the pyramid has tiles.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tifffile import TiffPage

from her2d.method import MAGNIFICATION
from her2d.slides.errors import RefusedError
from her2d.slides.images import Image
from her2d.slides.metadata import read_description

AS_IS_TOLERANCE = 0.05  # a level is not resampled if its scale differs from 4x by at most this

_ASPECT_TOLERANCE = 0.01
_ROUNDING_PX = 2.0  # levels are rounded up or down, at most twice
_TRANSPARENCY_MASK = 0b100  # NewSubfileType, tag 254
_REDUCED_PAGE = 0b1001  # how Aperio marks macros: a reduced image that is also a separate page

# The second line of a Motic or Aperio description: "label 387x463", "macro 160x456",
# "53046x51735 -> 847x826".
_ASSOCIATED = re.compile(
    r"^\s*(label|macro|thumbnail|overview)\s*(?:$|[|;]|\d+\s*x\s*\d+)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid.

    Attributes:
        image: its place in the file and its tags.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
    """

    image: Image
    downsample_x: float
    downsample_y: float

    @property
    def downsample(self) -> float:
        """Geometric mean of both axes."""
        return math.sqrt(self.downsample_x * self.downsample_y)


def find_pyramid(images: Sequence[Image]) -> list[Level]:
    """Return the levels of the pyramid, finest first.

    Args:
        images: all of the file, in its order.

    Raises:
        RefusedError: all images are associated images.
    """
    candidates = [image for image in images if not _is_associated(image)]
    if not candidates:
        raise RefusedError("has no slide image: only labels, macros or thumbnails")
    # Level 0 is the largest image, and the first of several (the focus levels of a z-stack).
    base = max(candidates, key=lambda image: image.area)
    levels = [Level(base, 1.0, 1.0)]
    for image in candidates:
        level = Level(
            image,
            _downsample(base.directory.width, image.directory.width),
            _downsample(base.directory.height, image.directory.height),
        )
        if image is not base and _belongs(base, level):
            levels.append(level)
    return sorted(levels, key=lambda level: level.downsample)


def choose_level(levels: Sequence[Level], magnification: float) -> tuple[Level, bool]:
    """Return the level to make 4x from, and whether it is 4x itself (within 5 %).

    Args:
        levels: finest first.
        magnification: of the objective, for level 0.

    Raises:
        RefusedError: the scan is coarser than 4x.
    """
    scale = {id(level): magnification / level.downsample / MAGNIFICATION for level in levels}
    fit = min(levels, key=lambda level: abs(scale[id(level)] - 1))
    if abs(scale[id(fit)] - 1) <= AS_IS_TOLERANCE:
        return fit, True
    finer = [level for level in levels if scale[id(level)] > 1]
    if not finer:
        raise RefusedError(
            f"was scanned at {magnification:g}x, coarser than the {MAGNIFICATION:g}x that HER2 "
            "status is read at; scan it again at a higher magnification"
        )
    return finer[-1], False


def associated_images(images: Sequence[Image], levels: Sequence[Level]) -> dict[str, Image]:
    """Return the pictures beside the pyramid by name: label, macro, thumbnail or overview.

    An image has the name that the second line of its description gives. Without one, an image that
    is marked as Aperio marks macros is the macro, and a stripped image beside a tiled pyramid is
    the thumbnail where it has level 0's aspect ratio. Of several with one name the first counts;
    other images (masks, further focus levels) are left out.

    Args:
        images: all of the file.
        levels: its pyramid, finest first.
    """
    base = levels[0].image
    in_pyramid = {id(level.image) for level in levels}
    found: dict[str, Image] = {}
    for image in images:
        name = None if id(image) in in_pyramid else _associated_name(base, image)
        if name is not None:
            found.setdefault(name, image)
    return found


def _associated_name(base: Image, image: Image) -> str | None:
    kind = image.page.subfiletype
    if kind & _TRANSPARENCY_MASK or read_description(image.page.description).vendor == "ome":
        return None
    named = _ASSOCIATED.search(image.page.description)
    if named is not None:
        return named[1].lower()
    if kind & _REDUCED_PAGE == _REDUCED_PAGE:
        return "macro"
    is_in_small = _has_aspect_of(base, image) and image.area < base.area
    if is_in_small and base.directory.tiled and not image.directory.tiled:
        return "thumbnail"
    return None


def _has_aspect_of(base: Image, image: Image) -> bool:
    first, other = base.directory, image.directory
    slack = max(_ASPECT_TOLERANCE, _ROUNDING_PX / other.width + _ROUNDING_PX / other.height)
    across = _downsample(first.width, other.width)
    return abs(across / _downsample(first.height, other.height) - 1) <= slack


def _downsample(base: int, level: int) -> float:
    """Return base pixels per level pixel, as a whole number where rounding explains the rest."""
    whole = max(1, round(base / level))
    return float(whole) if abs(base / whole - level) < 1 else base / level


def _is_associated(image: Image) -> bool:
    description = image.page.description
    kind = image.page.subfiletype
    if kind & _TRANSPARENCY_MASK or kind & _REDUCED_PAGE == _REDUCED_PAGE:
        return True
    if read_description(description).vendor == "ome":
        return False
    return _ASSOCIATED.search(description) is not None


def _belongs(base: Image, level: Level) -> bool:
    first, other = base.directory, level.image.directory
    if other.tiled != first.tiled:
        return False  # an image in strips beside a pyramid in tiles is a thumbnail
    if _samples(base.page) != _samples(level.image.page):
        return False
    if level.downsample <= 1.0:
        return False  # another focus or channel of level 0
    if read_description(base.page.description).vendor == "ome" and (
        other.parent is None and not level.image.page.subfiletype & 1
    ):
        return False  # OME-TIFF: the main chain holds other images, SubIFDs hold levels
    return _has_aspect_of(base, level.image)


def _samples(page: TiffPage) -> tuple[object, ...]:
    return (page.samplesperpixel, page.bitspersample, page.sampleformat, page.planarconfig)
