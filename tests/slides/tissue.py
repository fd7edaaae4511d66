"""Pictures that look like two sections of one block: alike in colour, different in structure."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def section(seed: int, *, height: int = 1600, width: int = 2400) -> Picture:
    """Draw a section; each seed gives another one with the same stain."""
    random = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cell in (400, 100, 25):
        small = random.normal(0, 1, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        whole += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * 18
    return np.clip(whole + np.array((205, 140, 185)), 0, 255).astype(np.uint8)


def reduced(picture: Picture, factor: int) -> Picture:
    """Average factor x factor pixels."""
    height, width = (side // factor for side in picture.shape[:2])
    return np.asarray(
        cv2.resize(
            picture[: height * factor, : width * factor],
            (width, height),
            interpolation=cv2.INTER_AREA,
        ),
        np.uint8,
    )


def out_of_focus(picture: Picture, sigma: float) -> Picture:
    """Blur as a lens does that is off by a few micrometres."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def neighbour_in_one_corner(picture: Picture, other: Picture) -> Picture:
    """Replace the lower right quarter by another picture."""
    mixed = picture.copy()
    y, x = picture.shape[0] // 2, picture.shape[1] // 2
    mixed[y:, x:] = other[y:, x:]
    return mixed
