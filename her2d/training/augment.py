"""The paper's augmentation (section 4.2): quarter turns, mirrors, 1-5 % of pixels masked.

Stain jitter is ours: laboratories' stainers differ more than a cohort's slides do.
"""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LEAST_MASKED, _MOST_MASKED = 0.01, 0.05


def turned(image: NDArray[np.generic], quarter: int, mirror: bool) -> NDArray[np.generic]:
    """Rotate (H, W, ...) by `quarter` x 90 degrees, then mirror left and right if asked."""
    rotated = np.rot90(image, quarter)
    return np.ascontiguousarray(rotated[:, ::-1] if mirror else rotated)


def masked(image: Image, rng: np.random.Generator) -> Image:
    """Blacken 1-5 % of an (H, W, 3) image's pixels, drawn at random."""
    share = rng.uniform(_LEAST_MASKED, _MOST_MASKED)
    hidden = rng.permutation(image.shape[0] * image.shape[1])[
        : round(share * image.shape[0] * image.shape[1])
    ]
    result = image.copy()
    result.reshape(-1, 3)[hidden] = 0
    return result


def restained(image: Image, rng: np.random.Generator) -> Image:
    """Scale each channel's optical density by up to 15 %, through a table of 256 values."""
    density = -np.log((np.arange(256) + 1) / 256)
    tables = 256 * np.exp(-density[:, None] * rng.uniform(0.85, 1.15, 3)) - 1
    rounded = tables.round().clip(0, 255).astype(np.uint8)
    return np.stack([rounded[image[..., c], c] for c in range(3)], axis=-1)


def augmented(
    image: Image, mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Image, NDArray[np.uint8]]:
    """All of it on an (H, W, 3) image, and its geometry on the (H, W) mask."""
    quarter, mirror = int(rng.integers(4)), bool(rng.integers(2))
    moved = np.asarray(turned(image, quarter, mirror), np.uint8)
    moved_mask = np.asarray(turned(mask, quarter, mirror), np.uint8)
    return masked(restained(moved, rng), rng), moved_mask
