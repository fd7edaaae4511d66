"""The paper's augmentation (section 4.2): quarter turns, mirrors, 1-5 % of pixels masked.

The paper adds six tiles to each: three turned, two mirrored and one masked. her2d augments tiles
differently in each epoch, by a seeded generator, and masks as many, one in seven. Stain jitter is
an addition of her2d, because stains differ more between laboratories than within a cohort.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb, rgb_from_hed

from her2d.research.training.optical_density import with_density_changed

Image = NDArray[np.uint8]

_LEAST_MASKED, _MOST_MASKED = 0.01, 0.05
_MASKED_TILES = 1 / 7
_SHIFT = 0.1


def rotate(image: NDArray[np.generic], quarter: int, mirror: bool) -> NDArray[np.generic]:
    """Rotate (H, W, ...) by `quarter` x 90 degrees, then optionally mirror it horizontally."""
    rotated = np.rot90(image, quarter)
    return np.ascontiguousarray(rotated[:, ::-1] if mirror else rotated)


def mask_pixels(image: Image, rng: np.random.Generator) -> Image:
    """Set a random 1-5 % of the pixels of an image, uint8 (H, W, 3), to black."""
    share = rng.uniform(_LEAST_MASKED, _MOST_MASKED)
    hidden = rng.permutation(image.shape[0] * image.shape[1])[
        : round(share * image.shape[0] * image.shape[1])
    ]
    result = image.copy()
    result.reshape(-1, 3)[hidden] = 0
    return result


def jitter_stain(image: Image, rng: np.random.Generator, jitter: float = 0.15) -> Image:
    """Vary the amounts of haematoxylin, eosin and residual colour in an image.

    The image's optical density is separated into the three after Ruifrok and Johnston (2001), each
    is multiplied by a random factor and shifted a little, and the colours are put together again
    (Tellez et al. 2018, 10.1109/TMI.2018.2820199).

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: Source of randomness.
        jitter: Factors are within 1 - jitter and 1 + jitter, and shifts within a tenth of jitter,
            in units of optical density.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    factors = rng.uniform(1 - jitter, 1 + jitter, 3)
    shifts = rng.uniform(-_SHIFT * jitter, _SHIFT * jitter, 3)
    colours = hed_from_rgb @ np.diag(factors) @ rgb_from_hed
    return with_density_changed(image, np.column_stack([colours.T, shifts @ rgb_from_hed]))


def augment(
    image: Image, mask: NDArray[np.uint8], rng: np.random.Generator, *, stain_jitter: float = 0.0
) -> tuple[Image, NDArray[np.uint8]]:
    """Augment an image, and apply the geometric augmentations to its mask.

    Rotations and mirroring give the eight symmetries of the square, which include the paper's five.
    One tile in eight is neither rotated nor mirrored, and one in seven has masked pixels.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W).
        rng: Source of randomness.
        stain_jitter: See `jitter_stain`; 0 leaves the stain unchanged.

    Returns:
        The augmented image and mask; H and W are exchanged by a quarter turn.
    """
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))
    moved = np.asarray(rotate(image, quarter, mirror), np.uint8)
    moved_mask = np.asarray(rotate(mask, quarter, mirror), np.uint8)
    if stain_jitter > 0:
        moved = jitter_stain(moved, rng, stain_jitter)
    if rng.random() < _MASKED_TILES:
        moved = mask_pixels(moved, rng)
    return moved, moved_mask
