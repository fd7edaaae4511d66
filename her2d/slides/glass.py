"""The colour of bare glass in a scan: that of the blocks that a file does not store."""

from collections.abc import Mapping

from tifffile import TiffPage

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)

DARKEST_GLASS = 200
"""Glass is at least as bright as this in each channel; a scanner shows it at about 240."""
_MOTIC_FIELD = "BackgroundColor"
_GDAL_NODATA = 42113


def glass_color(page: TiffPage, fields: Mapping[str, str]) -> Color:
    """Return the colour that a file states for what it does not store, white where it states none.

    Motic states it as one number in its description, GDAL as one grey value in a tag. A
    dark colour marks what was not scanned, which is shown as glass too.

    Args:
        page: level 0.
        fields: `key = value` fields of the vendor's description.
    """
    number = fields.get(_MOTIC_FIELD, "")
    if number.isascii() and number.isdecimal() and int(number) < 2**24:
        red_green_blue = int(number).to_bytes(3, "big")
        return _if_bright(red_green_blue[0], red_green_blue[1], red_green_blue[2])
    grey = str(page.tags.valueof(_GDAL_NODATA, default="")).strip(" \0")
    if grey.isascii() and grey.isdecimal() and int(grey) < 2**8:
        return _if_bright(int(grey), int(grey), int(grey))
    return WHITE


def _if_bright(red: int, green: int, blue: int) -> Color:
    return (red, green, blue) if min(red, green, blue) >= DARKEST_GLASS else WHITE
