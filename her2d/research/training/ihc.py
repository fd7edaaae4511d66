"""High HER2 expression from an IHC tile's brown: an approximation of what a pathologist sees.

The paper's pathologists labelled tiles from IHC by eye (section 4.1, "Slide Scanning and
Annotations"). Where no such annotation exists, the DAB stain's density by colour deconvolution
(Ruifrok and Johnston 2001) stands in. HER2 stains membranes: density is averaged over about a
cell, so that a cell whose rim is brown counts whole. Intensity is no membrane pattern: a dark 2+
can read as strong, a pale 3+ as weak, and pigment as stain. Use annotations where you have them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

DAB_THRESHOLD = 0.10
"""On scikit-image's scale a field of one colour has about 0.01 as background, 0.04 as 1+, 0.09 as
2+ and 0.18 as 3+ (`tests/research/training/test_ihc.py`): this takes 3+ and leaves 2+, of which
FISH and not brown says whether HER2 is amplified. Scanners and antibodies differ: measure your own
slides."""
_DAB = 2
_CELL_UM = 20.0


def dab_density(tile: NDArray[np.uint8], *, um_per_px: float) -> NDArray[np.float32]:
    """DAB density of a uint8 (H, W, 3) RGB tile, averaged over a cell: float32 (H, W), from 0."""
    density = rgb2hed(tile)[..., _DAB].astype(np.float32)
    return np.asarray(cv2.GaussianBlur(density, (0, 0), _CELL_UM / um_per_px / 2), np.float32)


def high_expression(
    tile: NDArray[np.uint8], tumor: NDArray[np.uint8], *, um_per_px: float, threshold: float
) -> NDArray[np.uint8]:
    """Tumour pixels whose surroundings are brown: uint8 (H, W), 1 inside.

    Args:
        tile: the IHC tile, uint8 (H, W, 3) RGB, aligned with the H&E tile.
        tumor: uint8 (H, W), 1 where the H&E tile is tumour.
        um_per_px: micrometres a pixel.
        threshold: density above which expression is high.
    """
    brown = dab_density(tile, um_per_px=um_per_px) > threshold
    return np.asarray(brown & (tumor > 0), np.uint8)
