"""Name the pictures beside a scan, by what their pages state and by their marks and shape."""

from her2d.slides.images import Image
from her2d.slides.level_shape import has_aspect_of
from her2d.slides.metadata import read_description
from her2d.slides.page_text import read_statement

REDUCED = 0b1  # NewSubfileType, tag 254
TRANSPARENCY_MASK = 0b100
REDUCED_PAGE = 0b1001  # how Aperio marks macros: a reduced image that is also a separate page


def picture_name(base: Image, image: Image) -> str | None:
    """Return the name of an image that is not part of the pyramid; None where nothing tells it.

    Args:
        base: the scan.
        image: another image of its file.
    """
    statement = read_statement(image.description)
    kind = image.page.subfiletype
    if kind & TRANSPARENCY_MASK or read_description(image.description).vendor == "ome":
        return None
    if statement.name is not None:
        return statement.name
    if kind & REDUCED_PAGE == REDUCED_PAGE:
        return "macro"
    if not base.directory.tiled or image.directory.tiled or image.area >= base.area:
        return None
    if has_aspect_of(base, image):
        return "thumbnail"
    return "label" if kind & REDUCED else None
