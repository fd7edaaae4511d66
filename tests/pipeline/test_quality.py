"""Focus, folds, pen marks and stain, on simulated slides with and without each artefact."""

import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from her2d.pipeline.quality import (
    QualityLimits,
    QualityTally,
    SlideQuality,
    StainReference,
    measure_tile,
    optical_density,
    pen_mask,
)
from her2d.simulator.plan import Artefacts, plan_slide
from her2d.simulator.render import render_region

TILE = 512
COLUMNS, ROWS = 6, 5
TILE_MM2 = (TILE * 0.0025) ** 2
LIMITS = QualityLimits()
SEEDS = (2, 5)


@functools.cache
def tiles(seed: int, artefacts: Artefacts) -> tuple[np.ndarray, ...]:
    plan = plan_slide(
        "quality",
        seed,
        her2_status="positive",
        width=COLUMNS * TILE,
        height=ROWS * TILE,
        artefacts=artefacts,
    )
    return tuple(
        render_region(plan, TILE * column, TILE * row, TILE, TILE).rgb
        for row in range(ROWS)
        for column in range(COLUMNS)
    )


def stain_of(found: SlideQuality) -> tuple[float, float, float]:
    return found.stain_red, found.stain_green, found.stain_blue


def quality(pictures, limits: QualityLimits = LIMITS) -> SlideQuality:
    tally = QualityTally()
    for picture in pictures:
        tally.add(measure_tile(picture, limits), limits)
    slide_mm2 = TILE_MM2 * len(pictures)
    return tally.finish(limits, tile_mm2=TILE_MM2, slide_mm2=slide_mm2, tumor_mm2=0.5)


def flags(found: SlideQuality) -> set[str]:
    return {
        name
        for name in ("blurred", "folded", "pen_marked", "stain_outlier")
        if getattr(found, name)
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("artefacts", "expected"),
    [
        (Artefacts(), set()),
        (Artefacts(dust=20), set()),
        (Artefacts(folds=2), {"folded"}),
        (Artefacts(pen_marks=1), {"pen_marked"}),
        (Artefacts(blur_patches=3), {"blurred"}),
    ],
    ids=["clean", "dust", "folds", "pen", "blur"],
)
def test_a_slide_is_flagged_only_for_the_artefacts_it_has(seed, artefacts, expected):
    assert flags(quality(tiles(seed, artefacts))) == expected


@pytest.mark.slow
def test_blur_lowers_focus_and_the_area_of_bare_glass_does_not():
    sharp = tiles(2, Artefacts())
    soft = [cv2.GaussianBlur(tile, (0, 0), 2.0) for tile in sharp]
    glass = np.full((TILE, TILE, 3), 245, np.uint8)
    focus = quality(sharp).focus
    assert focus > 3 * quality(soft).focus
    assert quality([*sharp, *[glass] * 40]).focus == focus


def test_tissue_is_measured_in_square_millimetres():
    glass = np.full((TILE, TILE, 3), 245, np.uint8)
    half = glass.copy()
    half[:, : TILE // 2] = (200, 120, 170)
    found = quality([glass, half])
    assert found.tissue_mm2 == pytest.approx(TILE_MM2 / 2, rel=0.01)
    assert found.tumor_mm2 == 0.5


def test_bare_glass_has_no_focus_and_no_flag():
    found = quality([np.full((TILE, TILE, 3), 245, np.uint8)])
    assert (found.focus, found.blurred_percent, found.tissue_fold_percent) == (None, None, None)
    assert (found.stain_red, found.stain_green, found.stain_blue) == (None, None, None)
    assert flags(found) == set()


@pytest.mark.parametrize("ink", [(40, 60, 160), (30, 120, 60), (30, 30, 40)])
def test_a_pen_stroke_on_bare_glass_is_found_at_its_pixels(ink):
    picture = np.full((256, 256, 3), 245, np.uint8)
    picture[100:130] = ink
    assert pen_mask(picture)[102:128].all()
    assert not pen_mask(picture)[:95].any()


@pytest.mark.slow
def test_stain_is_an_outlier_only_against_a_reference():
    pictures = tiles(2, Artefacts())
    found = quality(pictures)
    assert found.stain_distance is None
    near = StainReference(stain_of(found), (0.05, 0.05, 0.05))
    far = StainReference((0.6, 0.9, 0.6), (0.05, 0.05, 0.05))
    assert quality(pictures, QualityLimits(stain=near)).stain_distance == pytest.approx(0)
    outlier = quality(pictures, QualityLimits(stain=far))
    assert outlier.stain_distance > 3
    assert flags(outlier) == {"stain_outlier"}


def test_saturation_is_the_mean_over_tissue_and_not_over_glass():
    half = np.full((TILE, TILE, 3), 245, np.uint8)
    half[:, : TILE // 2] = (200, 100, 150)  # HSV saturation (200 - 100) / 200 of 255
    glass = np.full((TILE, TILE, 3), 245, np.uint8)
    assert quality([glass, half]).saturation == pytest.approx(127.5, abs=1)
    assert quality([glass]).saturation is None


def test_a_faded_slide_is_far_from_the_references_saturation():
    tile = np.full((TILE, TILE, 3), (200, 100, 150), np.uint8)
    stain = StainReference((0.3, 0.5, 0.2), (0.05, 0.05, 0.05), saturation=(157.5, 10.0))
    found = quality([tile], QualityLimits(stain=stain))
    assert found.saturation_distance == pytest.approx(3, abs=0.1)
    without = StainReference((0.3, 0.5, 0.2), (0.05, 0.05, 0.05))
    assert quality([tile], QualityLimits(stain=without)).saturation_distance is None


@settings(max_examples=5)
@given(st.permutations(range(12)))
@pytest.mark.slow
def test_the_order_of_tiles_does_not_matter(order):
    pictures = tiles(2, Artefacts())[6:18]
    one, other = quality(pictures), quality([pictures[i] for i in order])
    assert (one.focus, one.blurred_percent) == (other.focus, other.blurred_percent)
    assert stain_of(one) == pytest.approx(stain_of(other))


def test_optical_density_is_the_logarithm_of_the_transmitted_light():
    picture = np.array([[[245, 24, 255]]], np.uint8)
    assert optical_density(picture)[0, 0] == pytest.approx([0, np.log10(245 / 24), 0], abs=1e-6)


def test_focus_has_no_seams_between_the_bands_that_it_is_measured_in():
    picture = np.random.default_rng(3).integers(0, 256, (TILE, TILE, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 255, picture[..., 1] // 4  # saturated everywhere
    sharp = cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
    mean, square = (
        cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA) for image in (sharp, sharp * sharp)
    )
    assert measure_tile(picture, LIMITS).focus.tolist() == (square - mean * mean).ravel().tolist()
