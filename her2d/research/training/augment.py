"""The paper's augmentation (section 4.2): quarter turns, mirrors, 1-5 % of pixels masked.

The paper makes further tiles once; here each epoch draws anew, by a generator that is seeded. Stain
jitter is ours, off by default: the demo bundle uses it, for laboratories' stainers differ more than
a cohort's slides do.
"""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LEAST_MASKED, _MOST_MASKED = 0.01, 0.05


def rotate(image: NDArray[np.generic], quarter: int, mirror: bool) -> NDArray[np.generic]:
    """Rotate (H, W, ...) by `quarter` x 90 degrees, then mirror left and right if asked."""
    rotated = np.rot90(image, quarter)
    return np.ascontiguousarray(rotated[:, ::-1] if mirror else rotated)


def mask_pixels(image: Image, rng: np.random.Generator) -> Image:
    """Blacken 1-5 % of an (H, W, 3) image's pixels, drawn at random."""
    share = rng.uniform(_LEAST_MASKED, _MOST_MASKED)
    hidden = rng.permutation(image.shape[0] * image.shape[1])[
        : round(share * image.shape[0] * image.shape[1])
    ]
    result = image.copy()
    result.reshape(-1, 3)[hidden] = 0
    return result


def jitter_stain(image: Image, rng: np.random.Generator, jitter: float = 0.15) -> Image:
    """Scale each channel's optical density by up to `jitter`, through a table of 256 values."""
    density = -np.log((np.arange(256) + 1) / 256)
    tables = 256 * np.exp(-density[:, None] * rng.uniform(1 - jitter, 1 + jitter, 3)) - 1
    rounded = tables.round().clip(0, 255).astype(np.uint8)
    return np.stack([rounded[image[..., c], c] for c in range(3)], axis=-1)


def augment(
    image: Image, mask: NDArray[np.uint8], rng: np.random.Generator, *, stain_jitter: float = 0.0
) -> tuple[Image, NDArray[np.uint8]]:
    """All of it on an (H, W, 3) image, and its geometry on the (H, W) mask.

    A mirror after a quarter turn is horizontal, vertical or diagonal: the eight ways a square
    lies, the paper's five among them. One tile in eight is only masked.
    """
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))
    moved = np.asarray(rotate(image, quarter, mirror), np.uint8)
    moved_mask = np.asarray(rotate(mask, quarter, mirror), np.uint8)
    if stain_jitter > 0:
        moved = jitter_stain(moved, rng, stain_jitter)
    return mask_pixels(moved, rng), moved_mask
