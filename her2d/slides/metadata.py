"""What a scan says of itself, whichever vendor wrote it.

Motic and Aperio put `key = value` fields, separated by bars, into ImageDescription (tag 270);
OME-TIFF puts XML there; anything else may still have resolution tags (282, 283, 296).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from xml.etree import ElementTree

from her2d.slides.errors import RefusedError

_UM_PX_AT_1X = 10.0  # 40x is about 0.25 um/px
_OBJECTIVES = (1.25, 2.0, 2.5, 4.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
_SNAP = 0.10  # real scanners' MPP is up to 8 % off 10 / AppMag
_CONTRADICTION = 1.5  # objectives differ by a factor of 2: beyond this one of the two is wrong

_MAGNIFICATION_RANGE = (0.5, 200.0)
_MPP_RANGE = (0.02, 40.0)
# Screen and printer defaults (72 to 4800 dpi) are above 5 um/px, and so no scan this reads.
_RESOLUTION_MPP_RANGE = (0.02, 5.0)

_BARCODE_MAX = 128
_WITH_FIELDS = ("motic", "aperio")

_FIELD = re.compile(r"(?:^|[|;\r\n])[ \t]*(\w+)[ \t]*=[ \t]*([^|\r\n]*)")
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre
_UM_PER_OME_UNIT = {
    "µm": 1.0,  # U+00B5, the schema's default
    "μm": 1.0,  # U+03BC, as some writers have it
    "um": 1.0,
    "nm": 1e-3,
    "Å": 1e-4,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}


class MagnificationSource(StrEnum):
    """Which of a file's statements its magnification rests on."""

    APP_MAG = "AppMag"
    MPP = "MPP"
    NOMINAL_MAGNIFICATION = "NominalMagnification"
    PHYSICAL_SIZE = "PhysicalSizeX"
    RESOLUTION_TAGS = "resolution tags"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class SlideMetadata:
    """One scan's description.

    Attributes:
        vendor: "motic", "aperio", "ome" or "generic".
        magnification: the objective's, at level 0.
        mpp: micrometres per level-0 pixel; None where the file has no believable value.
        barcode: what a laboratory system knows the slide by.
        width, height: pixels of level 0.
        magnification_source: the statement `magnification` rests on.
    """

    vendor: str
    magnification: float
    mpp: float | None
    barcode: str | None
    width: int
    height: int
    magnification_source: MagnificationSource


@dataclass(frozen=True)
class Resolution:
    """XResolution, YResolution (pixels per unit) and ResolutionUnit of an image."""

    x: float
    y: float
    unit: int


@dataclass(frozen=True)
class Description:
    """What an ImageDescription states, believable values only."""

    vendor: str = "generic"
    magnification: float | None = None
    mpp: float | None = None
    barcode: str | None = None
    channels: int | None = None
    magnification_source: MagnificationSource = MagnificationSource.APP_MAG
    mpp_source: MagnificationSource = MagnificationSource.MPP


def read_description(text: str) -> Description:
    """The statements of one ImageDescription; an unknown format states nothing."""
    if "<OME" in text[:2048]:
        return _read_ome(text)
    fields = {key.lower(): value.strip() for key, value in _FIELD.findall(text)}
    start = text.lstrip()[:16].lower()
    return Description(
        vendor=next((name for name in _WITH_FIELDS if start.startswith(name)), "generic"),
        magnification=_believable(fields.get("appmag"), _MAGNIFICATION_RANGE),
        mpp=_believable(fields.get("mpp"), _MPP_RANGE),
        barcode="".join(filter(str.isprintable, fields.get("barcode", "")))[:_BARCODE_MAX] or None,
    )


def read_fields(text: str) -> dict[str, str]:
    """The `key = value` fields of a Motic or Aperio description (tag 270); empty for others.

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
    width: int,
    height: int,
    assume_magnification: float | None,
) -> SlideMetadata:
    """One metadata record from everything a file states.

    Args:
        descriptions: ImageDescriptions that speak of the scan, the most specific first; what one
            leaves open the next may state.
        resolution: level 0's resolution tags.
        width, height: pixels of level 0.
        assume_magnification: used where the file states none, or two that exclude each other.

    Raises:
        RefusedError: no magnification, or AppMag and MPP contradict each other.
    """
    stated = _merge([read_description(text) for text in descriptions])
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
    """Magnification, MPP and the source of the former.

    AppMag defines the 4x grid; MPP stands in for it. Where the two exclude each other neither is
    believed: a wrong scale would be a wrong result that looks right.
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
            f"{stated.mpp_source} = {mpp:g} exclude each other; set assume_magnification in "
            "config.toml to read it"
        )
    raise RefusedError(
        "has no magnification: neither AppMag nor MPP nor believable resolution tags; set "
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
    """The objective a magnification computed from MPP stands for, so that both give one grid."""
    nearest = min(_OBJECTIVES, key=lambda objective: abs(magnification / objective - 1))
    return nearest if abs(magnification / nearest - 1) <= _SNAP else magnification


def _believable(text: str | None, bounds: tuple[float, float]) -> float | None:
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


def _read_ome(text: str) -> Description:
    """OME-XML of any schema version: the first image is the scan (OME data model, 2016-06)."""
    nothing = Description(vendor="ome")
    # OME-XML has no use for a DTD, and entity expansion is an old way to fill memory.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return nothing
    try:
        root = ElementTree.fromstring(text.rstrip("\0 \r\n"))
    except (ElementTree.ParseError, ValueError):
        return nothing
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:
        return nothing
    unit = _UM_PER_OME_UNIT.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    if unit is not None and size is not None:
        size = str(unit * (_believable(size, (0.0, float("inf"))) or 0.0))
    return Description(
        vendor="ome",
        magnification=_believable(_ome_magnification(root), _MAGNIFICATION_RANGE),
        mpp=_believable(size, _MPP_RANGE) if unit is not None else None,
        channels=_whole(pixels.get("SizeC")),
        magnification_source=MagnificationSource.NOMINAL_MAGNIFICATION,
        mpp_source=MagnificationSource.PHYSICAL_SIZE,
    )


def _ome_magnification(root: ElementTree.Element) -> str | None:
    """NominalMagnification of the objective the first image names, else of the first there is."""
    settings = root.find("{*}Image/{*}ObjectiveSettings")
    used = settings.get("ID") if settings is not None else None
    objectives = root.findall("{*}Instrument/{*}Objective")
    named = [objective for objective in objectives if objective.get("ID") == used]
    for objective in named or objectives[:1]:
        return objective.get("NominalMagnification")
    return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
