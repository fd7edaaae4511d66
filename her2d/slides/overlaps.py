"""Recognise scans whose stored tiles overlap; they are refused, because nothing here joins them."""

import re
from collections.abc import Sequence

from tifffile import TiffPage

from her2d.slides.errors import RefusedError
from her2d.slides.images import Image

_XMP = 700
_TRESTLE = re.compile(r"\bOverlapsXY\s*=([\s\d]*)")
_VENTANA = re.compile(rb"\bOverlap[XY]\s*=\s*[\"']\s*(-?\d+)")


def check_tiles_do_not_overlap(images: Sequence[Image]) -> None:
    """Check that neither Trestle's nor Ventana's statements say that tiles overlap.

    Tiles that overlap would be read as a picture that is too large, with every seam doubled.

    Args:
        images: all of the file.

    Raises:
        RefusedError: tiles of a scan overlap.
    """
    for image in images:
        for vendor, overlap in (
            ("Trestle", _trestle_overlap(image.page)),
            ("Ventana", _ventana_overlap(image.page)),
        ):
            if overlap:
                raise RefusedError(
                    f"has tiles that overlap by up to {overlap} pixels, as {vendor}'s scanners "
                    "store them, which cannot be joined here; export it without overlaps"
                )


def _trestle_overlap(page: TiffPage) -> int:
    """Return the largest overlap that ImageDescription (tag 270) states for any level."""
    stated = _TRESTLE.search(page.description)
    return max(map(int, stated[1].split()), default=0) if stated else 0


def _ventana_overlap(page: TiffPage) -> int:
    """Return the largest overlap between two tiles in the XML of iScan (XMP, tag 700)."""
    text = page.tags.valueof(_XMP, default=b"")
    found = _VENTANA.findall(text if isinstance(text, bytes) else str(text).encode())
    return max((abs(int(value[:9])) for value in found), default=0)
