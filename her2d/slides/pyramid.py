"""The levels of the scan in a file: the one to make 4x from, and the pictures beside them."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from her2d.slides.images import Image
from her2d.slides.level_shape import Level
from her2d.slides.metadata import within
from her2d.slides.page_text import MASK
from her2d.slides.picture_names import picture_name
from her2d.slides.scale import TOLERANCE, Scale
from her2d.slides.scan_search import Pyramid, find_pyramid

__all__ = ["Level", "Pyramid", "associated_images", "choose_level", "find_pyramid"]


class Reduced(Protocol):
    """A level of any format."""

    @property
    def downsample(self) -> float: ...


AnyLevel = TypeVar("AnyLevel", bound=Reduced)


def choose_level(levels: Sequence[AnyLevel], scale: Scale) -> tuple[AnyLevel, bool]:
    """Return the level to make the grid from, and whether its pixels are those of the grid.

    They are within 5 %. Otherwise the nearest finer level is averaged, or level 0 enlarged.

    Args:
        levels: finest first.
        scale: of the scan.
    """
    fit = min(levels, key=lambda level: scale.deviation(level.downsample))
    if within(scale.deviation(fit.downsample), TOLERANCE):
        return fit, True
    finer = [level for level in levels if level.downsample < scale.downsample]
    return (finer[-1] if finer else levels[0]), False


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
