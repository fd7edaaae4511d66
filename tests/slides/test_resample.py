"""Area averaging is exact, and does not depend on the block layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from her2d.slides.resample import area_parts, axis_weights, covered

Picture = NDArray[np.uint8]


def by_definition(image: NDArray[Any], scale: float, height: int, width: int) -> NDArray[Any]:
    """Compute each grid pixel as the sum over its overlaps with all source pixels."""

    def overlaps(source: int, target: int) -> NDArray[np.float64]:
        shares = np.zeros((target, source))
        for t in range(target):
            for s in range(source):
                shares[t, s] = max(0.0, min(s + 1, (t + 1) * scale) - max(s, t * scale))
        return shares / scale

    rows, columns = overlaps(image.shape[0], height), overlaps(image.shape[1], width)
    return np.einsum("ys,sxc,tx->ytc", rows, image.astype(float), columns)


def assembled(image: Picture, scale: float, block: tuple[int, int]) -> NDArray[np.float32]:
    """Compute the whole grid from blocks of a size, each averaged separately."""
    height, width = (int(side / scale) for side in image.shape[:2])
    total = np.zeros((height, width, 3), np.float32)
    for top in range(0, image.shape[0], block[0]):
        for left in range(0, image.shape[1], block[1]):
            part = image[top : top + block[0], left : left + block[1]]
            vertical = axis_weights(top, top + part.shape[0], scale, height)
            horizontal = axis_weights(left, left + part.shape[1], scale, width)
            if vertical.first == height or horizontal.first == width:
                continue  # beyond the last whole grid pixel
            sums = area_parts(part, vertical, horizontal)
            y, x = vertical.first, horizontal.first
            total[y : y + sums.shape[0], x : x + sums.shape[1]] += sums
    return total


images = st.builds(
    lambda height, width, seed: np.random.default_rng(seed).integers(
        0, 256, (height, width, 3), np.uint8
    ),
    st.integers(12, 60),
    st.integers(12, 60),
    st.integers(0, 2**32 - 1),
)
scales = st.one_of(
    st.sampled_from([1.25, 2.0, 2.5, 5.0, 10.0]), st.floats(1.05, 11.0, allow_nan=False)
)


@settings(deadline=None)
@given(images, scales, st.integers(1, 64), st.integers(1, 64))
def test_every_grid_pixel_is_the_mean_of_the_area_it_covers(
    image: Picture, scale: float, block_height: int, block_width: int
) -> None:
    found = assembled(image, scale, (block_height, block_width))
    expected = by_definition(image, scale, *found.shape[:2])
    np.testing.assert_allclose(found, expected, atol=2e-3)


@given(st.integers(1, 4000), st.integers(1, 4000), scales)
def test_each_source_pixel_gives_its_whole_weight_once(
    start: int, length: int, scale: float
) -> None:
    stop = start + length
    axis = axis_weights(start, stop, scale, length=10**6)
    assert axis.share.sum() * scale == pytest.approx(length, rel=1e-4)
    first, last = covered(start, stop, scale, 10**6)
    assert (axis.first, len(axis.share)) == (first, last - first)


@given(scales, st.integers(1, 255))
def test_an_even_area_stays_even(scale: float, value: int) -> None:
    image = np.full((40, 40, 3), value, np.uint8)
    np.testing.assert_allclose(assembled(image, scale, (7, 9)), value, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (256, 256)},
        {"tile": (240, 240)},
        {"rowsperstrip": 1},
        {"rowsperstrip": 100},
    ],
)
@pytest.mark.parametrize("magnification", [5, 10, 11.5, 40])
def test_a_finer_scan_is_averaged_to_4x_from_any_layout(
    options: dict[str, Any],
    magnification: float,
    picture: Callable[..., Picture],
    write: Callable[..., Path],
    read: Callable[..., Picture],
) -> None:
    image = picture(900, 1300)
    path = write(image, **options, compression="zlib", description=f"AppMag = {magnification}")
    pixels = read(path)
    scale = magnification / 4
    assert pixels.shape == (int(900 / scale), int(1300 / scale), 3)
    area = by_definition(image[:90, :130], scale, int(90 / scale), int(130 / scale))
    corner = pixels[: area.shape[0], : area.shape[1]]
    np.testing.assert_allclose(corner, area, atol=0.502)
    # The far corner, from the other end: the last whole grid pixel.
    y, x = pixels.shape[0] - 1, pixels.shape[1] - 1
    top, left = int(y * scale), int(x * scale)
    piece = image[top:, left:].astype(float)
    low, high = piece.min(axis=(0, 1)), piece.max(axis=(0, 1))
    assert (pixels[y, x] >= low - 1).all()
    assert (pixels[y, x] <= high + 1).all()


@pytest.mark.parametrize("scale", [4 / 3, 1.25 * 8 / 10 * 1.006])
def test_a_grid_pixel_that_exists_by_rounding_only_has_no_share(scale: float) -> None:
    weights = axis_weights(0, 512, scale, 10_000)
    block = np.full((512, 512, 3), 200, np.uint8)
    parts = area_parts(block, weights, weights)
    assert parts.shape == (len(weights.share), len(weights.share), 3)
    assert parts.max() <= 200.01
