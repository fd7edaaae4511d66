"""The background rule (paper, section 4.2)."""

import cv2
import numpy as np
from numpy.typing import NDArray


def mean_saturation(pixels: NDArray[np.uint8]) -> float:
    """Mean HSV saturation of a uint8 (H, W, 3) RGB tile on OpenCV's 0..255 scale."""
    return float(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))[1])
