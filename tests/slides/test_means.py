"""Means in whole numbers are those in float32, to the last grey value."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from her2d.slides.means import FloatMeans, Means, WholeMeans, means_at
from her2d.slides.resample import area_parts

Picture = NDArray[np.uint8]


def averaged(image: Picture, scale: float, means: Means, block: tuple[int, int]) -> Picture:
    """Compute the whole grid from blocks of a size, each averaged separately."""
    height, width = (int(side / scale) for side in image.shape[:2])
    total: NDArray[Any] = np.zeros((height, width, 3), means.dtype)
    for top in range(0, image.shape[0], block[0]):
        for left in range(0, image.shape[1], block[1]):
            part = image[top : top + block[0], left : left + block[1]]
            down = means.weights(top, top + part.shape[0], scale, height)
            across = means.weights(left, left + part.shape[1], scale, width)
            sums = area_parts(part, down, across)
            y, x = down.first, across.first
            total[y : y + sums.shape[0], x : x + sums.shape[1]] += sums
    return means.rounded(total)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1.0, 1.125, 1.25, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.0, 8.0]),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.sampled_from([0, 254]),
    st.integers(0, 2**32 - 1),
)
def test_whole_numbers_and_float32_give_the_same_grey_values(
    scale: float, block: tuple[int, int], darkest: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(darkest, 256, (150, 170, 3), np.uint8)
    means = means_at(scale, scale)
    assert isinstance(means, WholeMeans)
    found = averaged(image, scale, means, block)
    np.testing.assert_array_equal(found, averaged(image, scale, FloatMeans(), block))


def test_halves_are_rounded_up() -> None:
    image = np.array([[[10], [11]], [[10], [11]]], np.uint8).repeat(3, axis=2)
    assert averaged(image, 2.0, means_at(2.0, 2.0), (2, 2)).tolist() == [[[11, 11, 11]]]


@pytest.mark.parametrize(
    "scales",
    [
        (10.0, 10.0),  # hundredths, of which some are halves
        (2.5003, 2.5003),  # the grid of a scan's own micrometres per pixel
        (2.5, 5.0),
        (0.9, 0.9),
        (11.0, 11.0),  # 255 x 11 x 11 has 15 bits, but 40x may come at half size
    ],
)
def test_other_scales_are_averaged_in_float32(scales: tuple[float, float]) -> None:
    assert isinstance(means_at(*scales), FloatMeans)
