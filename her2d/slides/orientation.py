"""Show an image whose rows or columns are stored in the other direction (Orientation, tag 274)."""

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from her2d.slides.errors import RefusedError

_ORIENTATION = 274
_MIRRORED = {1: (False, False), 2: (True, False), 3: (True, True), 4: (False, True)}


def mirrored(page: TiffPage) -> tuple[bool, bool]:
    """Return whether an image is stored from right to left, and whether from the bottom up.

    Values that TIFF 6.0 does not define are taken for the usual order, as in libtiff.

    Raises:
        RefusedError: its rows are stored as columns.
    """
    value = page.tags.valueof(_ORIENTATION, default=1)
    if value in range(5, 9):
        raise RefusedError(
            f"is stored turned by 90 degrees (Orientation {value}), which cannot be read; "
            "export it upright"
        )
    return _MIRRORED.get(value, (False, False))


def mirror(pixels: NDArray[np.uint8], turned: tuple[bool, bool]) -> NDArray[np.uint8]:
    """Return pixels (height, width, ...) in the other direction along the axes of `turned`."""
    across, down = (-1 if is_turned else 1 for is_turned in turned)
    return np.ascontiguousarray(pixels[::down, ::across])


def blocks_behind(place: int, block: int, side: int, is_turned: bool) -> slice:
    """Return the stored blocks that hold what is shown as one block, along one axis.

    Args:
        place: the block's place as it is shown.
        block: pixels of a block.
        side: pixels of the image.
        is_turned: whether the axis is stored in the other direction.
    """
    if not is_turned:
        return slice(place, place + 1)
    first = side - min((place + 1) * block, side)
    last = side - place * block - 1
    return slice(first // block, last // block + 1)
