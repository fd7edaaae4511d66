"""Read OME-XML, the description of an OME-TIFF: its images, their sizes and their pages.

https://docs.openmicroscopy.org/ome-model/ describes it. All schema versions are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from her2d.slides.xml_elements import read_elements
from her2d.system.numerals import read_number

UM_PER_UNIT = {
    "µm": 1.0,  # U+00B5, the schema's default
    "μm": 1.0,  # U+03BC, which some programs write
    "um": 1.0,
    "nm": 1e-3,
    "Å": 1e-4,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}
_ELEMENTS = (
    *("Image", "Pixels", "TiffData"),
    *("Instrument", "Objective", "ObjectiveSettings"),
)


@dataclass(frozen=True)
class OmeImage:
    """One Image element.

    Attributes:
        name: its Name, such as "macro image".
        width, height: SizeX and SizeY in pixels; 0 where they are not stated.
        planes, times, channels: SizeZ, SizeT and SizeC; at least 1.
        um_x, um_y: PhysicalSizeX and PhysicalSizeY in micrometres per pixel.
        magnification: NominalMagnification of its objective, as written.
        first_page: number of its first page on the chain of pages; None where it is not stated.
    """

    name: str
    width: int
    height: int
    planes: int
    times: int
    channels: int
    um_x: float | None
    um_y: float | None
    magnification: str | None
    first_page: int | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


def is_ome(text: str) -> bool:
    """Return whether the text is OME-XML."""
    return "<OME" in text[:2048]


def read_ome(text: str) -> list[OmeImage]:
    """Return the images that OME-XML lists, in its order; none where it cannot be parsed."""
    root = read_elements(text, _ELEMENTS)
    return [] if root is None else list(_images(root))


def _images(root: ElementTree.Element) -> Iterator[OmeImage]:
    for image in root.findall("Image"):
        pixels = image.find("Pixels")
        if pixels is None:
            continue
        yield OmeImage(
            name=image.get("Name") or "",
            width=whole_number(pixels.get("SizeX")) or 0,
            height=whole_number(pixels.get("SizeY")) or 0,
            planes=max(1, whole_number(pixels.get("SizeZ")) or 1),
            times=max(1, whole_number(pixels.get("SizeT")) or 1),
            channels=max(1, whole_number(pixels.get("SizeC")) or 1),
            um_x=_micrometres(pixels, "PhysicalSizeX"),
            um_y=_micrometres(pixels, "PhysicalSizeY"),
            magnification=_magnification(root, image),
            first_page=_first_page(pixels),
        )


def _micrometres(pixels: ElementTree.Element, axis: str) -> float | None:
    unit = UM_PER_UNIT.get(pixels.get(f"{axis}Unit", "µm").strip())
    size = read_number(pixels.get(axis, ""))
    return size * unit if unit is not None and size is not None and size > 0 else None


def _magnification(root: ElementTree.Element, image: ElementTree.Element) -> str | None:
    """Return NominalMagnification of the objective that the image names, or of the first."""
    settings = image.find("ObjectiveSettings")
    used = settings.get("ID") if settings is not None else None
    objectives = root.findall("Instrument/Objective")
    named = [objective for objective in objectives if objective.get("ID") == used]
    for objective in named or objectives[:1]:
        return objective.get("NominalMagnification")
    return None


def _first_page(pixels: ElementTree.Element) -> int | None:
    """Return IFD of the first TiffData; a TiffData without IFD begins at page 0."""
    pages = [whole_number(data.get("IFD", "0")) for data in pixels.findall("TiffData")]
    return min((page for page in pages if page is not None), default=None)


def whole_number(text: str | None) -> int | None:
    """Return the whole number that a text consists of, else None."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
