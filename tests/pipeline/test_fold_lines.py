"""What is proven not to be a fold is none, however closely one looks."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from her2d.pipeline import tissue_folds
from her2d.pipeline.fold_lines import DIRECTIONS, LINES_SIDE, averages, beside, spectrum_of
from her2d.pipeline.tissue_folds import dark_lines, fold_mask, possible_lines

SIDE = LINES_SIDE
EVERYWHERE = np.ones((SIDE, SIDE), np.bool_)


def tissue_like(seed: int, *, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the optical density of rough tissue with holes and double strips, and where it is."""
    rng = np.random.default_rng(seed)
    density = cv2.GaussianBlur(rng.random((SIDE, SIDE, 3), dtype=np.float32), (0, 0), 2.0)
    density *= 0.3 / density.mean()
    for _ in range(folds):
        (x0, y0, x1, y1), strip = (
            rng.integers(0, SIDE, 4).tolist(),
            np.zeros((SIDE, SIDE), np.uint8),
        )
        cv2.line(strip, (x0, y0), (x1, y1), 1, 5)
        density *= 1 + strip[..., None] * rng.uniform(0.2, 1.0)
    holes = cv2.GaussianBlur(rng.random((SIDE, SIDE), dtype=np.float32), (0, 0), 6.0)
    tissue = holes > np.quantile(holes, rng.choice([0.0, 0.1, 0.4]))
    density[~tissue] *= 0.05
    return density, tissue


slides = st.builds(tissue_like, st.integers(0, 2**32 - 1), folds=st.integers(0, 4))


@given(slides)
@settings(max_examples=15)
def test_every_dark_line_is_among_those_that_are_looked_at(slide):
    density, tissue = slide
    summed = density.sum(axis=2)
    spectrum = spectrum_of(np.dstack([summed, tissue.astype(np.float32)]))
    for number, possible in enumerate(possible_lines(summed)):
        dark = dark_lines(averages(spectrum, number), number, EVERYWHERE)
        assert not (dark & ~possible).any()


@given(slides)
@settings(max_examples=15)
def test_folds_are_the_same_when_every_line_is_looked_at(slide):
    density, tissue = slide
    found = fold_mask(density, tissue)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue_folds, "possible_lines", lambda _: [EVERYWHERE] * DIRECTIONS)
        patch.setattr(tissue_folds, "_may_lie_on_tissue", lambda *_: EVERYWHERE)
        assert np.array_equal(fold_mask(density, tissue), found)


def test_these_slides_have_folds_and_some_have_none():
    found = [fold_mask(*tissue_like(seed, folds=seed % 4)).any() for seed in range(12)]
    assert 3 <= sum(found) <= 9
    assert not any(found[::4])


@pytest.mark.parametrize("number", range(DIRECTIONS))
def test_a_line_is_compared_with_those_a_folds_breadth_to_both_sides(number):
    angle = np.pi * number / DIRECTIONS
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    lines = np.dstack([across, across]).astype(np.float32)
    where = np.zeros((SIDE, SIDE), np.bool_)
    where[20:108:7, 20:108:5] = True
    left, right = beside(lines, number, where)
    assert np.allclose(left[:, 0], across[where] - 8, atol=0.05)
    assert np.allclose(right[:, 1], across[where] + 8, atol=0.05)
