"""Count the tumour in a tile: what the 10 % rule for tiles and P of equation 1 count."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TumorCount:
    """The tumour in one tile.

    Attributes:
        pixels: number of tumour pixels that count.
        left_out: number of tumour pixels that do not count because they are in an artefact.
    """

    pixels: int
    left_out: int


def count_tumor(
    mask: NDArray[np.uint8], extent: tuple[int, int], artefacts: NDArray[np.bool_] | None
) -> TumorCount:
    """Take padding and artefacts out of a tile's tumour mask, and count what is left.

    Args:
        mask: the segmenter's, uint8 (H, H), 1 where tumour; changed in place.
        extent: width and height of the part of the tile that is scan. The network's answer outside
            does not count, because padding is not tissue.
        artefacts: pixels under a pen, in a tissue fold or out of focus, bool and square; None if
            there are none.
    """
    width, height = extent
    mask[height:] = 0
    mask[:, width:] = 0
    found = int(np.count_nonzero(mask))
    if artefacts is None or not found:
        return TumorCount(found, 0)
    spoilt = cv2.resize(artefacts.view(np.uint8), mask.shape, interpolation=cv2.INTER_NEAREST)
    mask[spoilt > 0] = 0
    left = int(np.count_nonzero(mask))
    return TumorCount(left, found - left)
