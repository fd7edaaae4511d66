"""Read the XML that Leica's scanners write into the first page of an SCN file.

It lists images, each a picture of one area of the glass, with the page of every level. One of them
is the macro photograph, which covers the whole glass.
"""

import base64
import binascii
from dataclasses import dataclass
from xml.etree import ElementTree

from her2d.slides.ome import whole_number
from her2d.slides.xml_elements import read_elements

_NAMESPACE = "http://www.leica-microsystems.com/scn/"
_UM_PER_NM = 1e-3
_ELEMENTS = (
    *("collection", "image", "pixels", "dimension", "view", "barcode", "scanSettings"),
    *("objectiveSettings", "objective", "illuminationSettings", "illuminationSource"),
)


@dataclass(frozen=True, slots=True)
class LeicaPage:
    """One page of an image.

    Attributes:
        page: its number on the chain of pages.
        width, height: pixels.
        level: from 0, the finest.
        plane: of focus, from 0.
        channel: of fluorescence; None in bright field.
    """

    page: int
    width: int
    height: int
    level: int
    plane: int
    channel: str | None


@dataclass(frozen=True)
class LeicaImage:
    """One image of the file.

    Attributes:
        is_macro: whether it shows the whole glass.
        bright_field: whether it is a bright-field image.
        magnification: of the objective, as written.
        um_x, um_y: micrometres per pixel of its finest level.
        pages: of all its levels and planes.
    """

    is_macro: bool
    bright_field: bool
    magnification: str | None
    um_x: float | None
    um_y: float | None
    pages: tuple[LeicaPage, ...]

    @property
    def planes(self) -> int:
        """Number of focal planes."""
        return len({page.plane for page in self.pages})


@dataclass(frozen=True)
class LeicaFile:
    """What the XML states.

    Attributes:
        barcode: of the slide; None where there is none.
        images: in the XML's order.
    """

    barcode: str | None
    images: tuple[LeicaImage, ...]


def is_leica(text: str) -> bool:
    """Return whether the text is the XML of an SCN file."""
    return _NAMESPACE in text[:2048]


def read_leica(text: str) -> LeicaFile | None:
    """Return what the XML of an SCN file states; None where it cannot be parsed."""
    root = read_elements(text, _ELEMENTS)
    collection = None if root is None else root.find("collection")
    if collection is None:
        return None
    images = [_read_image(collection, image) for image in collection.findall("image")]
    return LeicaFile(_barcode(collection), tuple(image for image in images if image.pages))


def _read_image(collection: ElementTree.Element, image: ElementTree.Element) -> LeicaImage:
    view = image.find("view")
    pages = tuple(page for item in image.findall("pixels/dimension") if (page := _read_page(item)))
    finest = max(pages, key=lambda page: page.width * page.height, default=None)
    source = image.findtext("scanSettings/illuminationSettings/illuminationSource")
    return LeicaImage(
        is_macro=view is not None and _covers(collection, view),
        bright_field=(source or "brightfield").strip().lower() == "brightfield"
        and all(page.channel is None for page in pages),
        magnification=image.findtext("scanSettings/objectiveSettings/objective"),
        um_x=_um_per_px(view, "sizeX", finest.width if finest else 0),
        um_y=_um_per_px(view, "sizeY", finest.height if finest else 0),
        pages=pages,
    )


def _read_page(item: ElementTree.Element) -> LeicaPage | None:
    page, width, height = (whole_number(item.get(key)) for key in ("ifd", "sizeX", "sizeY"))
    if page is None or not width or not height:
        return None
    return LeicaPage(
        page=page,
        width=width,
        height=height,
        level=whole_number(item.get("r")) or 0,
        plane=whole_number(item.get("z")) or 0,
        channel=item.get("c"),
    )


def _covers(collection: ElementTree.Element, view: ElementTree.Element) -> bool:
    at_origin = all(whole_number(view.get(key, "0")) == 0 for key in ("offsetX", "offsetY"))
    return at_origin and all(
        collection.get(key) is not None and view.get(key) == collection.get(key)
        for key in ("sizeX", "sizeY")
    )


def _um_per_px(view: ElementTree.Element | None, key: str, pixels: int) -> float | None:
    nanometres = _nanometres(view, key)
    return nanometres * _UM_PER_NM / pixels if nanometres and pixels else None


def _nanometres(view: ElementTree.Element | None, key: str) -> int | None:
    text = view.get(key) if view is not None else None
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _barcode(collection: ElementTree.Element) -> str | None:
    """Return the barcode, which Leica writes in base64."""
    text = (collection.get("barcode") or collection.findtext("barcode") or "").strip()
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return text or None
    return decoded if decoded.isprintable() and decoded else text or None
