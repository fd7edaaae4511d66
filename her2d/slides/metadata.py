"""Read magnification, resolution and barcode from what a file states about its scan.

Motic and Aperio write `key = value` fields, separated by bars, into ImageDescription (tag 270).
OME-TIFF has XML there. Other files may have resolution tags (282, 283, 296).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from her2d.slides.errors import RefusedError
from her2d.slides.leica import LeicaImage
from her2d.slides.ome import OmeImage, is_ome, read_ome

_UM_PX_AT_1X = 10.0  # 40x is about 0.25 um/px
_OBJECTIVES = (1.25, 2.0, 2.5, 4.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
_SNAP = 0.10  # the MPP of real scanners differs by up to 8 % from 10 / AppMag
_CONTRADICTION = 1.5  # objectives differ by a factor of 2, so beyond this one of the two is wrong

_MAGNIFICATION_RANGE = (0.5, 200.0)
_MPP_RANGE = (0.02, 40.0)
# Defaults for screens and printers (72 to 4800 dpi) are above 5 um/px, coarser than any scan read.
_RESOLUTION_MPP_RANGE = (0.02, 5.0)

_BARCODE_MAX = 128
_WITH_FIELDS = ("motic", "aperio")

_FIELD = re.compile(r"(?:^|[|;\r\n])[ \t]*(\w+)[ \t]*=[ \t]*([^|\r\n]*)")
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre


class MagnificationSource(StrEnum):
    """Which statement of a file the magnification was taken from."""

    APP_MAG = "AppMag"
    MPP = "MPP"
    NOMINAL_MAGNIFICATION = "NominalMagnification"
    PHYSICAL_SIZE = "PhysicalSizeX"
    VIEW = "view"
    RESOLUTION_TAGS = "resolution tags"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class SlideMetadata:
    """What a file states about its scan.

    Attributes:
        vendor: "motic", "aperio", "ome", "leica" or "generic".
        magnification: of the objective, for level 0.
        mpp: micrometres per level-0 pixel; None where the file states no plausible value.
        barcode: the slide's identifier in a laboratory information system; None where the file
            states none.
        width, height: pixels of level 0.
        magnification_source: the statement that `magnification` was taken from.
        focal_plane: which plane of a z-stack is read, such as "3 of 5"; None where there is one.
    """

    vendor: str
    magnification: float
    mpp: float | None
    barcode: str | None
    width: int
    height: int
    magnification_source: MagnificationSource
    focal_plane: str | None = None


@dataclass(frozen=True)
class Resolution:
    """The resolution tags of an image.

    Attributes:
        x, y: pixels per unit (tags 282 and 283).
        unit: ResolutionUnit (tag 296): 2 is the inch, 3 the centimetre.
    """

    x: float
    y: float
    unit: int


@dataclass(frozen=True)
class Description:
    """The plausible values that one ImageDescription (tag 270) states; None where it states none.

    Attributes:
        vendor: as in SlideMetadata.
        magnification: of the objective.
        mpp: micrometres per pixel.
        barcode: the slide's identifier.
        channels: number of channels, stated by OME only.
        magnification_source, mpp_source: the statement that each value was taken from.
    """

    vendor: str = "generic"
    magnification: float | None = None
    mpp: float | None = None
    barcode: str | None = None
    channels: int | None = None
    magnification_source: MagnificationSource = MagnificationSource.APP_MAG
    mpp_source: MagnificationSource = MagnificationSource.MPP


def read_description(text: str) -> Description:
    """Return what one ImageDescription states; nothing where its format is unknown."""
    if is_ome(text):
        images = read_ome(text)
        return describe_ome(images[0]) if images else Description(vendor="ome")
    fields = {key.lower(): value.strip() for key, value in _FIELD.findall(text)}
    start = text.lstrip()[:16].lower()
    return Description(
        vendor=next((name for name in _WITH_FIELDS if start.startswith(name)), "generic"),
        magnification=_plausible(fields.get("appmag"), _MAGNIFICATION_RANGE),
        mpp=_plausible(fields.get("mpp"), _MPP_RANGE),
        barcode="".join(filter(str.isprintable, fields.get("barcode", "")))[:_BARCODE_MAX] or None,
    )


def read_fields(text: str) -> dict[str, str]:
    """Return the `key = value` fields of a Motic or Aperio description (tag 270), else none.

    Keys are as the file has them, characters that cannot be printed are dropped, and of fields with
    one key the last counts.
    """
    if read_description(text).vendor not in _WITH_FIELDS:
        return {}
    found = {}
    for field in text.split("|")[1:]:
        key, equals, value = (
            "".join(filter(str.isprintable, part)).strip() for part in field.partition("=")
        )
        if key and equals:
            found[key] = value
    return found


def describe(
    descriptions: Sequence[str],
    resolution: Resolution | None,
    *,
    listed: Description | None = None,
    width: int,
    height: int,
    assume_magnification: float | None,
) -> SlideMetadata:
    """Combine everything a file states about its scan.

    Args:
        descriptions: ImageDescriptions that concern the scan, the most specific first. A value
            that one does not state is taken from the next.
        resolution: the resolution tags of level 0.
        listed: what XML that describes several images states about this one; it comes first.
        width, height: pixels of level 0.
        assume_magnification: used where the file states none, or where AppMag and MPP contradict
            each other.

    Raises:
        RefusedError: there is no magnification, or AppMag and MPP contradict each other, and
            `assume_magnification` is None.
    """
    read = [read_description(text) for text in descriptions]
    stated = _merge(read if listed is None else [listed, *read])
    if stated.mpp is None and resolution is not None:
        mpp = _resolution_mpp(resolution)
        if stated.magnification is None or not _contradict(stated.magnification, mpp):
            stated = replace(stated, mpp=mpp, mpp_source=MagnificationSource.RESOLUTION_TAGS)
    magnification, mpp, source = _settle(stated, assume_magnification)
    return SlideMetadata(
        vendor=stated.vendor,
        magnification=magnification,
        mpp=mpp,
        barcode=stated.barcode,
        width=width,
        height=height,
        magnification_source=source,
    )


def _settle(
    stated: Description, assumed: float | None
) -> tuple[float, float | None, MagnificationSource]:
    """Return magnification, MPP and the source of the magnification.

    AppMag defines the 4x grid, and MPP replaces it where it is missing. If the two contradict each
    other neither is used, because a wrong scale gives a wrong result that looks right.
    """
    magnification, mpp = stated.magnification, stated.mpp
    contradiction = magnification is not None and _contradict(magnification, mpp)
    if magnification is not None and not contradiction:
        return magnification, mpp, stated.magnification_source
    if mpp is not None and not contradiction:
        return _objective(_UM_PX_AT_1X / mpp), mpp, stated.mpp_source
    if assumed is not None:
        believed = None if _contradict(assumed, mpp) else mpp
        return assumed, believed, MagnificationSource.ASSUMED
    if contradiction:
        raise RefusedError(
            f"contradicts itself: {stated.magnification_source} = {magnification:g} and "
            f"{stated.mpp_source} = {mpp:g} cannot both be right; set assume_magnification in "
            "config.toml to read it"
        )
    raise RefusedError(
        "has no magnification: neither AppMag nor MPP nor plausible resolution tags; set "
        "assume_magnification in config.toml to read it"
    )


def _merge(descriptions: Sequence[Description]) -> Description:
    merged = descriptions[0] if descriptions else Description()
    for other in descriptions[1:]:
        if merged.magnification is None:
            merged = replace(
                merged,
                magnification=other.magnification,
                magnification_source=other.magnification_source,
            )
        if merged.mpp is None:
            merged = replace(merged, mpp=other.mpp, mpp_source=other.mpp_source)
        merged = replace(
            merged,
            vendor=other.vendor if merged.vendor == "generic" else merged.vendor,
            barcode=merged.barcode or other.barcode,
            channels=merged.channels or other.channels,
        )
    return merged


def _contradict(magnification: float, mpp: float | None) -> bool:
    if mpp is None:
        return False
    ratio = magnification * mpp / _UM_PX_AT_1X
    return not 1 / _CONTRADICTION < ratio < _CONTRADICTION


def _objective(magnification: float) -> float:
    """Return the objective nearest to a magnification computed from MPP, or the latter itself."""
    nearest = min(_OBJECTIVES, key=lambda objective: abs(magnification / objective - 1))
    return nearest if abs(magnification / nearest - 1) <= _SNAP else magnification


def _plausible(text: str | None, bounds: tuple[float, float]) -> float | None:
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        return None
    return value if bounds[0] <= value <= bounds[1] else None


def _resolution_mpp(resolution: Resolution) -> float | None:
    um_per_unit = _UM_PER_RESOLUTION_UNIT.get(resolution.unit)
    if um_per_unit is None or resolution.x <= 0 or resolution.y <= 0:
        return None
    if abs(resolution.x / resolution.y - 1) > 0.05:
        return None
    mpp = um_per_unit / resolution.x
    return mpp if _RESOLUTION_MPP_RANGE[0] <= mpp < _RESOLUTION_MPP_RANGE[1] else None


def describe_ome(image: OmeImage) -> Description:
    """Return what OME-XML states about one image (OME data model, 2016-06)."""
    # The sides of a pixel are compared where the image is chosen.
    sizes = [size for size in (image.um_x, image.um_y) if size is not None]
    return Description(
        vendor="ome",
        magnification=_plausible(image.magnification, _MAGNIFICATION_RANGE),
        mpp=_plausible(str(sizes[0]), _MPP_RANGE) if sizes else None,
        channels=image.channels,
        magnification_source=MagnificationSource.NOMINAL_MAGNIFICATION,
        mpp_source=MagnificationSource.PHYSICAL_SIZE,
    )


def describe_leica(image: LeicaImage, barcode: str | None) -> Description:
    """Return what the XML of an SCN file states about one image."""
    return Description(
        vendor="leica",
        magnification=_plausible(image.magnification, _MAGNIFICATION_RANGE),
        mpp=_plausible(str(image.um_x), _MPP_RANGE) if image.um_x is not None else None,
        barcode="".join(filter(str.isprintable, barcode or ""))[:_BARCODE_MAX] or None,
        magnification_source=MagnificationSource.NOMINAL_MAGNIFICATION,
        mpp_source=MagnificationSource.VIEW,
    )
