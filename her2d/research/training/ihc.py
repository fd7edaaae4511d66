"""Estimate high HER2 expression from the DAB stain (brown) of an IHC tile.

The paper's pathologists labelled tiles from IHC by eye (section 4.1, "Slide Scanning and
Annotations"). Without such annotations, the density of DAB by colour deconvolution (Ruifrok and
Johnston 2001) is used instead. HER2 stains membranes, so density is averaged over about the size of
a cell, and a cell with a brown membrane counts as a whole. Intensity does not show the membrane
pattern: a dark 2+ can count as strong, a pale 3+ as weak, and pigment as stain. Prefer annotations
if you have them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

DAB_THRESHOLD = 0.10
"""Density above which expression is high, on scikit-image's scale.

A field of one colour has about 0.01 as background, 0.04 as 1+, 0.09 as 2+ and 0.18 as 3+
(`tests/research/training/test_ihc.py`). The threshold includes 3+ but not 2+, for which FISH
decides whether HER2 is amplified. Scanners and antibodies differ, so measure your own slides."""
_DAB = 2
_CELL_UM = 20.0


def dab_density(tile: NDArray[np.uint8], *, um_per_px: float) -> NDArray[np.float32]:
    """Compute the density of DAB, averaged over about the size of a cell.

    Args:
        tile: uint8 (H, W, 3) RGB.
        um_per_px: Micrometres per pixel.

    Returns:
        Density on scikit-image's scale, from 0, float32 (H, W).
    """
    density = rgb2hed(tile)[..., _DAB].astype(np.float32)
    return np.asarray(cv2.GaussianBlur(density, (0, 0), _CELL_UM / um_per_px / 2), np.float32)


def high_expression(
    tile: NDArray[np.uint8], tumor: NDArray[np.uint8], *, um_per_px: float, threshold: float
) -> NDArray[np.uint8]:
    """Find tumour pixels with high expression.

    Args:
        tile: IHC tile aligned with the H&E tile, uint8 (H, W, 3) RGB.
        tumor: uint8 (H, W), 1 where the H&E tile is tumour.
        um_per_px: Micrometres per pixel.
        threshold: Density of DAB above which expression is high.

    Returns:
        uint8 (H, W), 1 where expression is high.
    """
    brown = dab_density(tile, um_per_px=um_per_px) > threshold
    return np.asarray(brown & (tumor > 0), np.uint8)
