"""Macenko's and Reinhard's stain normalisation, to be measured as alternatives to stain jitter.

Both describe a slide's stain by a few numbers of its tissue, and change pixels to have those of
another stain. her2d's pipeline does neither: a bundle's networks read slides as they were scanned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.errors import Her2dError
from her2d.research.training.optical_density import DENSITY, with_density_changed

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

_LEAST_DENSITY = 0.15
"""Optical density above which a pixel is tissue, in each channel (Macenko et al. 2009)."""
_EXTREME_PERCENT = 1.0
_STRONG_PERCENT = 99.0
_FEWEST_PIXELS = 1000
_LEAST_SPREAD = 1.0  # grey levels


class StainError(Her2dError):
    """There is too little tissue to measure a stain on."""


class Look(Protocol):
    """A slide's stain as a method describes it."""

    def turned_into(self, other: "Look", image: Image) -> Image:
        """Change an image, uint8 (H, W, 3) RGB, of this stain into one of another."""
        ...


@dataclass(frozen=True, slots=True)
class MacenkoLook:
    """Two stain vectors and the strength of their dyes (Macenko et al. 2009).

    Attributes:
        vectors: Unit vectors of haematoxylin and eosin in optical density, float64 (2, 3).
        strength: 99th percentile of the amount of each dye, float64 (2,).
    """

    vectors: Floats
    strength: Floats

    def turned_into(self, other: "Look", image: Image) -> Image:
        """Replace the slide's vectors and strengths by those of another slide.

        What the two vectors do not explain is left out, as the method does.
        """
        assert isinstance(other, MacenkoLook)
        amounts = np.linalg.pinv(self.vectors) * (other.strength / self.strength)
        return with_density_changed(image, (amounts @ other.vectors).T)


@dataclass(frozen=True, slots=True)
class ReinhardLook:
    """Mean and standard deviation of tissue in CIE L*a*b* (Reinhard et al. 2001).

    Attributes:
        mean, spread: Of OpenCV's L, a and b in grey levels, float64 (3,).
    """

    mean: Floats
    spread: Floats

    def turned_into(self, other: "Look", image: Image) -> Image:
        """Give an image the mean and spread of another slide."""
        assert isinstance(other, ReinhardLook)
        factor = other.spread / self.spread
        shift = other.mean - self.mean * factor
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
        changed = cv2.transform(lab, np.column_stack([np.diag(factor), shift]))
        rounded = changed.round().clip(0, 255).astype(np.uint8)
        return np.asarray(cv2.cvtColor(rounded, cv2.COLOR_LAB2RGB), np.uint8)


def macenko_look(images: Sequence[Image]) -> MacenkoLook:
    """Measure the stain of a slide's tiles by Macenko's method.

    The two vectors are the extreme directions, the 1st and 99th percentile, in the plane of most
    variance of the tissue's optical density. The one that absorbs more red is haematoxylin.

    Args:
        images: Tiles, uint8 (H, W, 3) RGB each.

    Raises:
        StainError: The tiles show too little tissue.
    """
    tissue = DENSITY[_tissue(images)].astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(tissue.T))
    plane = axes[:, 1:]
    # Both axes point into the tissue, so that no angle is cut in two.
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    on_plane = tissue @ plane
    angles = np.arctan2(on_plane[:, 0], on_plane[:, 1])
    extremes = np.percentile(angles, [_EXTREME_PERCENT, 100 - _EXTREME_PERCENT])
    vectors = np.array([plane @ [np.sin(angle), np.cos(angle)] for angle in extremes])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[np.argsort(-vectors[:, 0])]
    amounts = tissue @ np.linalg.pinv(vectors)
    return MacenkoLook(vectors, np.percentile(amounts, _STRONG_PERCENT, axis=0))


def reinhard_look(images: Sequence[Image]) -> ReinhardLook:
    """Measure the colour of the tissue in a slide's tiles by Reinhard's method.

    Args:
        images: Tiles, uint8 (H, W, 3) RGB each.

    Raises:
        StainError: The tiles show too little tissue.
    """
    lab = cv2.cvtColor(_tissue(images)[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)
    return ReinhardLook(lab.mean(axis=0), np.maximum(lab.std(axis=0), _LEAST_SPREAD))


def _tissue(images: Sequence[Image]) -> Image:
    """Return the pixels of tissue, uint8 (N, 3). Raises StainError if they are too few."""
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    tissue = pixels[(DENSITY > _LEAST_DENSITY)[pixels].all(axis=1)]
    if len(tissue) < _FEWEST_PIXELS:
        raise StainError("the slide shows too little tissue to measure its stain")
    return np.asarray(tissue)
