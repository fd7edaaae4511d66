"""Read magnification, resolution and barcode from what a file states about its scan.

Motic and Aperio write `key = value` fields, separated by bars, into ImageDescription (tag 270).
ImageJ writes one field a line, OME-TIFF has XML there. Other files may have resolution tags (282,
283, 296).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from her2d.slides.errors import RefusedError
from her2d.slides.leica import LeicaImage
from her2d.slides.ome import UM_PER_UNIT, OmeImage, is_ome, read_ome
from her2d.slides.plausible import MAGNIFICATIONS, MPP, plausible
from her2d.system.numerals import NUMERAL, half_width, read_number
from her2d.system.text import printable

UM_PX_AT_1X = 10.0  # 40x is about 0.25 um/px
_OBJECTIVES = (1.25, 2.0, 2.5, 4.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
DOUBTFUL = 0.10
"""Share by which two scales may differ without doubt: the MPP of real scanners differs by up to 8 %
from 10 / AppMag."""
WRONG = 0.25
"""Share from which on a scale that differs is wrong."""
# Magnification times MPP, as a share of the usual 10. Small pixels of a camera, or an adapter
# before it, make it smaller: 20x is 0.24 um/px on one scanner and 0.35 on another. Objectives
# differ by a factor of 2, so beyond these one of the two statements is wrong.
_PLAUSIBLE_RATIO = (0.3, 1.5)
_ROUNDING = 1e-9

# Defaults for screens and printers (72 to 4800 dpi) are above 5 um/px, coarser than any scan read.
_RESOLUTION_MPP_RANGE = (0.02, 5.0)

_MOST_TEXT = 2**18  # characters of a description that are searched; vendors write under 10,000
_BARCODE_MAX = 8192  # characters; of all symbols a QR code holds most, 7089 digits
_WITH_FIELDS = ("motic", "aperio")

# Chinese and Japanese input methods write the signs in full width.
_FIELD = re.compile(
    r"(?:^|[|;\r\n｜；])[ \t]*(\w+(?:[ \t-]\w+){0,3})[ \t]*[=:＝：][ \t]*([^|\r\n｜]*)"
)
_QUANTITY = re.compile(rf"\+?({NUMERAL})\s*(.*)", re.DOTALL)
# "20", "20x", "20 X" or "x20"; within an objective's name, such as "Plan Apo 20x/0.75", with the x.
_TIMES = "[xX×倍]"
_POWER = re.compile(rf"{_TIMES}?\s{{0,8}}({NUMERAL})\s{{0,8}}{_TIMES}?")
_POWER_IN_A_NAME = re.compile(rf"(?<![\d.,])({NUMERAL})\s{{0,8}}{_TIMES}(?![^\W\d_])")
_MPP_KEYS = ("mpp", "mppx", "micronsperpixel")
_BARCODE_KEYS = ("barcode", "条码", "條碼", "条形码", "條形碼", "バーコード")
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre
_UM_PER_UNIT = UM_PER_UNIT | {
    **dict.fromkeys(("micron", "microns"), 1.0),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1.0),
    "微米": 1.0,
    "inch": 25_400.0,
}
_PER_PIXEL = re.compile(r"(?:/|per)\s*(?:px|pix|pixel|pixels)\.?$", re.IGNORECASE)


class MagnificationSource(StrEnum):
    """Which statement of a file the magnification was taken from."""

    APP_MAG = "AppMag"
    MAGNIFICATION = "Magnification"
    OBJECTIVE = "Objective"
    MPP = "MPP"
    NOMINAL_MAGNIFICATION = "NominalMagnification"
    PHYSICAL_SIZE = "PhysicalSizeX"
    VIEW = "view"
    RESOLUTION_TAGS = "resolution tags"
    ASSUMED = "assumed"


_POWER_KEYS = {
    **dict.fromkeys(("appmag", "apparentmagnification"), MagnificationSource.APP_MAG),
    **dict.fromkeys(("magnification", "放大倍数", "倍率"), MagnificationSource.MAGNIFICATION),
    **dict.fromkeys(
        ("objective", "objectivepower", "objectivemagnification", "objectivelens", "物镜"),
        MagnificationSource.OBJECTIVE,
    ),
}


class BarcodeSource(StrEnum):
    """Where a slide's barcode was read."""

    DESCRIPTION = "description"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class DisputedMpp:
    """A resolution that a file states and that is not believed.

    Attributes:
        mpp: micrometres per level-0 pixel.
        source: the statement that it was taken from.
    """

    mpp: float
    source: MagnificationSource


@dataclass(frozen=True)
class SlideMetadata:
    """What a file states about its scan.

    Attributes:
        vendor: "motic", "aperio", "ome", "leica" or "generic".
        magnification: of the objective, for level 0.
        mpp: micrometres per level-0 pixel; None where the file states no value that is believed.
        barcode: the slide's identifier in a laboratory information system, as `printable` writes
            it; None where the file states none.
        width, height: pixels of level 0.
        magnification_source: the statement that `magnification` was taken from.
        focal_plane: which plane of a z-stack is read, such as "3 of 5"; None where there is one.
        decoding: "JPEG at half size" where tiles are made from blocks that are decoded so; None
            where every pixel is decoded.
        unread_pictures: a clause that says which pictures of the file were neither read nor named,
            such as "1 further picture of 1200 x 900 was not read"; None where there is none.
        barcode_source: where `barcode` was read; None where it is None.
        label_barcode: what is printed as a barcode on the label image; None where there is none or
            nobody has looked (see `her2d.slides.label`).
        disputed_mpp: a resolution that is stated and differs by over 10 % from that of
            `magnification`, so that `mpp` is None; None where there is none.
    """

    vendor: str
    magnification: float
    mpp: float | None
    barcode: str | None
    width: int
    height: int
    magnification_source: MagnificationSource
    focal_plane: str | None = None
    unread_pictures: str | None = None
    decoding: str | None = None
    barcode_source: BarcodeSource | None = None
    label_barcode: str | None = None
    disputed_mpp: DisputedMpp | None = None


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
        resolution_unit_um: micrometres in the unit of the resolution tags, stated by ImageJ only.
        magnification_source, mpp_source: the statement that each value was taken from.
    """

    vendor: str = "generic"
    magnification: float | None = None
    mpp: float | None = None
    barcode: str | None = None
    channels: int | None = None
    resolution_unit_um: float | None = None
    magnification_source: MagnificationSource = MagnificationSource.APP_MAG
    mpp_source: MagnificationSource = MagnificationSource.MPP


def read_description(text: str) -> Description:
    """Return what one ImageDescription states; nothing where its format is unknown."""
    if is_ome(text):
        images = read_ome(text)
        return describe_ome(images[0]) if images else Description(vendor="ome")
    text = text[:_MOST_TEXT]
    fields = {_key(key): value.strip() for key, value in _FIELD.findall(text)}
    start = text.lstrip()[:16].lower()
    power = _first_power(fields)
    return Description(
        vendor=next((name for name in _WITH_FIELDS if start.startswith(name)), "generic"),
        magnification=None if power is None else power[0],
        mpp=next(filter(None, (_micrometres(fields.get(key, "")) for key in _MPP_KEYS)), None),
        barcode=recorded_barcode(next(filter(None, map(fields.get, _BARCODE_KEYS)), "")),
        resolution_unit_um=_unit(fields.get("unit", "")) if start.startswith("imagej=") else None,
        magnification_source=MagnificationSource.APP_MAG if power is None else power[1],
    )


def count_values(text: str) -> int:
    """Return how many values a description states that are used here, the vendor among them."""
    stated = read_description(text)
    values = (stated.magnification, stated.mpp, stated.barcode, stated.resolution_unit_um)
    return sum(value is not None for value in values) + (stated.vendor != "generic")


def _key(text: str) -> str:
    return re.sub(r"[\s_-]", "", text).lower()


def _first_power(fields: Mapping[str, str]) -> tuple[float, MagnificationSource] | None:
    """Return the first magnification that is stated in one of the known ways, and in which."""
    for key, source in _POWER_KEYS.items():
        text = half_width(fields.get(key, ""))
        found = _POWER.fullmatch(text)
        powers = {found[1]} if found else set(_POWER_IN_A_NAME.findall(text))
        if len(powers) == 1 and (value := plausible(read_number(powers.pop()), MAGNIFICATIONS)):
            return value, source
    return None


def _micrometres(text: str) -> float | None:
    """Return micrometres per pixel from a text such as "0.25", "0,25 µm" or "250 nm/pixel"."""
    found = _QUANTITY.fullmatch(half_width(text))
    if found is None:
        return None
    unit = _unit(_PER_PIXEL.sub("", found[2])) if found[2] else 1.0
    value = read_number(found[1])
    return None if unit is None or value is None else plausible(value * unit, MPP)


def _unit(text: str) -> float | None:
    """Return the micrometres of a unit of length, None if it is not known."""
    unit = text.strip(" \t()[]").replace("\\u00B5", "µ").replace("\\u00b5", "µ")  # as ImageJ writes
    return _UM_PER_UNIT.get(unit, _UM_PER_UNIT.get(unit.lower()))


def barcodes_differ(stated: str | None, on_label: str | None) -> bool:
    """Return whether a file and the label of its slide name different slides.

    A code on the label may hold more than the slide's identifier: "900444" and "S26;900444;HE"
    do not differ. Without one of the two there is nothing to compare.
    """
    if stated is None or on_label is None:
        return False
    if stated.casefold() == on_label.casefold():
        return False
    parts = {part.casefold() for part in re.split(r"[^\w.-]+", on_label)}
    return stated.casefold() not in parts


def recorded_barcode(text: str) -> str | None:
    """Return a barcode as it is recorded: whole, or with a note that it was cut; None for ""."""
    recorded = printable(text[: _BARCODE_MAX + 1])
    if len(recorded) > _BARCODE_MAX:
        return f"{recorded[:_BARCODE_MAX]}… (cut, the file states {len(text)} characters)"
    return recorded or None


def read_fields(text: str) -> dict[str, str]:
    """Return the `key = value` fields of a Motic or Aperio description (tag 270), else none.

    Keys are as the file has them, characters that cannot be printed are dropped, and of fields with
    one key the last counts.
    """
    if read_description(text).vendor not in _WITH_FIELDS:
        return {}
    found = {}
    for field in text[:_MOST_TEXT].split("|")[1:]:
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
    reduction: float | None = None,
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
        reduction: by how much level 0 is smaller than the scan that its description is of, None
            where it is that scan.
        width, height: pixels of level 0.
        assume_magnification: used where the file states none, where AppMag and MPP contradict each
            other, or where it is not known whether they are those of level 0.

    Raises:
        RefusedError: `assume_magnification` is None where it would be used.
    """
    read = [read_description(text) for text in descriptions]
    stated = _merge(read if listed is None else [listed, *read])
    settled = (
        _settle(_with_tags(stated, resolution), assume_magnification)
        if reduction is None or (stated.magnification is None and stated.mpp is None)
        else _settle_reduced(stated, reduction, assume_magnification)
    )
    return SlideMetadata(
        vendor=stated.vendor,
        magnification=settled.magnification,
        mpp=settled.mpp,
        barcode=stated.barcode,
        width=width,
        height=height,
        magnification_source=settled.source,
        barcode_source=None if stated.barcode is None else BarcodeSource.DESCRIPTION,
        disputed_mpp=settled.disputed_mpp,
    )


@dataclass(frozen=True, slots=True)
class _Settled:
    """What is believed of the magnification and the MPP that a file states."""

    magnification: float
    mpp: float | None
    source: MagnificationSource
    disputed_mpp: DisputedMpp | None = None


def _settle(stated: Description, assumed: float | None) -> _Settled:
    """Return what is believed of the scale that a file states.

    The models know tissue by its size in micrometres, so MPP is believed where it and the objective
    differ, as they do where a camera has an adapter. Resolution tags, which are often left as they
    were when an image is exported, are believed where they agree with the objective, or where no
    objective is stated. Where two statements contradict each other a wrong scale would give a wrong
    result that looks right.
    """
    magnification, mpp = stated.magnification, stated.mpp
    if magnification is None:
        return _without_objective(mpp, stated.mpp_source, assumed)
    if mpp is None or agree(magnification, mpp):
        return _Settled(magnification, mpp, stated.magnification_source)
    if stated.mpp_source is MagnificationSource.RESOLUTION_TAGS:
        return _beside_other_tags(magnification, mpp, stated.magnification_source, assumed)
    if _PLAUSIBLE_RATIO[0] < magnification * mpp / UM_PX_AT_1X < _PLAUSIBLE_RATIO[1]:
        return _Settled(_objective(UM_PX_AT_1X / mpp), mpp, stated.mpp_source)
    if assumed is not None:
        return _assumed(assumed, mpp, stated.mpp_source)
    raise RefusedError(
        f"contradicts itself: {stated.magnification_source} = {magnification:g} and "
        f"{stated.mpp_source} = {mpp:g} cannot both be right; set assume_magnification in "
        "config.toml to read it"
    )


def _settle_reduced(stated: Description, reduction: float, assumed: float | None) -> _Settled:
    """Settle the scale of a reduced copy of a scan by an assumption.

    Scanners repeat the scan's values in the descriptions of its levels, and so do programs that
    export one; others change them. Which of the two was done cannot be known.
    """
    if stated.mpp is not None:
        mpp, source, text = stated.mpp, stated.mpp_source, f"{stated.mpp:g}"
    else:
        assert stated.magnification is not None
        mpp = UM_PX_AT_1X / stated.magnification
        source, text = stated.magnification_source, f"{stated.magnification:g}"
    if assumed is not None:
        return _assumed(assumed, mpp * reduction, source)
    raise RefusedError(
        f"is a copy of a scan, {reduction:.3g} times as small, and does not say whether"
        f" {source} = {text} is that of the scan or of the copy; set assume_magnification in"
        " config.toml to read it"
    )


def _with_tags(stated: Description, resolution: Resolution | None) -> Description:
    """Return a description with the MPP of the resolution tags, if it states none."""
    if stated.mpp is not None or resolution is None:
        return stated
    mpp = resolution_mpp(resolution, stated.resolution_unit_um)
    return replace(stated, mpp=mpp, mpp_source=MagnificationSource.RESOLUTION_TAGS)


def _without_objective(
    mpp: float | None, source: MagnificationSource, assumed: float | None
) -> _Settled:
    if mpp is not None:
        return _Settled(_objective(UM_PX_AT_1X / mpp), mpp, source)
    if assumed is not None:
        return _Settled(assumed, None, MagnificationSource.ASSUMED)
    raise RefusedError(
        "has no magnification: neither AppMag nor MPP nor plausible resolution tags; set "
        "assume_magnification in config.toml to read it"
    )


def _beside_other_tags(
    magnification: float, mpp: float, source: MagnificationSource, assumed: float | None
) -> _Settled:
    """Settle an objective and resolution tags that differ from it by over 10 %.

    An assumption settles it if they contradict each other and it agrees with one of the two. If it
    agrees with neither, it was made for other files.
    """
    contradict = abs(magnification * mpp / UM_PX_AT_1X - 1) > WRONG + _ROUNDING
    fits = assumed is not None and (
        within(abs(assumed / magnification - 1), DOUBTFUL) or agree(assumed, mpp)
    )
    if assumed is not None and contradict and fits:
        return _assumed(assumed, mpp, MagnificationSource.RESOLUTION_TAGS)
    disputed = DisputedMpp(mpp, MagnificationSource.RESOLUTION_TAGS)
    return _Settled(magnification, None, source, disputed)


def _assumed(assumed: float, mpp: float, source: MagnificationSource) -> _Settled:
    """Settle a contradiction by an assumption, which does not have to agree with the MPP."""
    if agree(assumed, mpp):
        return _Settled(assumed, mpp, MagnificationSource.ASSUMED)
    return _Settled(assumed, None, MagnificationSource.ASSUMED, DisputedMpp(mpp, source))


def agree(magnification: float, mpp: float) -> bool:
    """Return whether a magnification and an MPP differ by no more than those of scanners do."""
    return within(abs(magnification * mpp / UM_PX_AT_1X - 1), DOUBTFUL)


def within(share: float, limit: float) -> bool:
    """Return whether a share is at most the limit, where rounding has no effect."""
    return share <= limit + _ROUNDING


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
            resolution_unit_um=merged.resolution_unit_um or other.resolution_unit_um,
        )
    return merged


def _objective(magnification: float) -> float:
    """Return the objective nearest to a magnification computed from MPP, or the latter itself."""
    nearest = min(_OBJECTIVES, key=lambda objective: abs(magnification / objective - 1))
    return nearest if abs(magnification / nearest - 1) <= DOUBTFUL else magnification


def resolution_mpp(resolution: Resolution, stated_unit_um: float | None) -> float | None:
    """Return the micrometres per pixel that resolution tags state; None if not plausible."""
    um_per_unit = stated_unit_um or _UM_PER_RESOLUTION_UNIT.get(resolution.unit)
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
        magnification=plausible(read_number(image.magnification or ""), MAGNIFICATIONS),
        mpp=plausible(sizes[0], MPP) if sizes else None,
        channels=image.channels,
        magnification_source=MagnificationSource.NOMINAL_MAGNIFICATION,
        mpp_source=MagnificationSource.PHYSICAL_SIZE,
    )


def describe_leica(image: LeicaImage, barcode: str | None) -> Description:
    """Return what the XML of an SCN file states about one image."""
    return Description(
        vendor="leica",
        magnification=plausible(read_number(image.magnification or ""), MAGNIFICATIONS),
        mpp=plausible(image.um_x, MPP),
        barcode="".join(filter(str.isprintable, barcode or ""))[:_BARCODE_MAX] or None,
        magnification_source=MagnificationSource.NOMINAL_MAGNIFICATION,
        mpp_source=MagnificationSource.VIEW,
    )
