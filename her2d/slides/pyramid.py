"""The levels of the scan in a file: the one to make 4x from, and the pictures beside them."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from her2d.method import MAGNIFICATION
from her2d.slides.errors import RefusedError
from her2d.slides.images import Image
from her2d.slides.level_shape import Level
from her2d.slides.page_text import MASK
from her2d.slides.picture_names import picture_name
from her2d.slides.scan_search import Pyramid, find_pyramid

__all__ = ["Level", "Pyramid", "associated_images", "choose_level", "find_pyramid"]

AS_IS_TOLERANCE = 0.05  # a level is not resampled if its scale differs from 4x by at most this


class Reduced(Protocol):
    """A level of any format."""

    @property
    def downsample(self) -> float: ...


AnyLevel = TypeVar("AnyLevel", bound=Reduced)


def choose_level(levels: Sequence[AnyLevel], magnification: float) -> tuple[AnyLevel, bool]:
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


def associated_images(images: Sequence[Image], pyramid: Pyramid) -> dict[str, Image]:
    """Return the pictures beside the pyramid by name: label, macro, thumbnail or overview.

    An image has the name that its description, or the file's XML, gives. Without one, an image that
    is marked as Aperio marks macros is the macro, and a stripped image beside a tiled pyramid is
    the thumbnail where it has level 0's aspect ratio, else the label where it is marked as a
    reduced image. Of several with one name the first counts; other images (masks, further focal
    planes) are left out.

    Args:
        images: all of the file.
        pyramid: its scan.
    """
    base = pyramid.levels[0].image
    in_pyramid = {id(level.image) for level in pyramid.levels}
    found: dict[str, Image] = {}
    for image in images:
        if id(image) in in_pyramid:
            continue
        name = pyramid.pictures.get(id(image)) or picture_name(base, image)
        if name is not None and name != MASK:
            found.setdefault(name, image)
    return found
