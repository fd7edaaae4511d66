"""Read the resolution tags of a page, in every type that programs write them in."""

import math

from tifffile import TiffPage

from her2d.slides.metadata import Resolution

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_INCH = 2


def page_resolution(page: TiffPage) -> Resolution | None:
    """Return the resolution tags (282, 283, 296) of a page; None where they are not numbers."""
    x, y = (_ratio(page.tags.valueof(code)) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    if x is None or y is None:
        return None
    return Resolution(x, y, unit=int(page.tags.valueof(_RESOLUTION_UNIT, default=_INCH)))


def _ratio(value: object) -> float | None:
    """Return a resolution, which some programs write as an integer or floating-point number."""
    match value:
        case (int(numerator), int(denominator)) if denominator:
            return numerator / denominator
        case (int() | float() as number,) | (int() | float() as number) if math.isfinite(number):
            return float(number)
    return None
