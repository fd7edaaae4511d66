"""Tumour outlines: valid polygons of the mask's regions, with their area, in level-0 pixels."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from her2d.results.export.outlines import AREA_TOLERANCE, tumor_outlines
from her2d.results.pictures import Pictures
from her2d.results.stored_run import read_run

PX = 8
PIXEL = (512 / PX) ** 2  # in level-0 pixels
PIXEL_UM2 = (2.5 * 512 / PX) ** 2
MASKS = arrays(bool, (6 * PX, 8 * PX), elements=st.booleans(), fill=st.just(False))
STRONG = (slice(0, PX), slice(2 * PX, 3 * PX))
WEAK = (slice(PX, 2 * PX), slice(PX, 2 * PX))


@pytest.fixture
def run(db, record):
    """A grid of 8 x 6 tiles; (2, 0) strong and (1, 1) weak, as columns and rows."""
    return read_run(db, record())


def outlines(run, mask, *, least_um2=0.0, px=PX):
    tumor = mask.astype(np.uint8) * 255
    pictures = Pictures(np.zeros((*mask.shape, 3), np.uint8), tumor, px)
    return tumor_outlines(run, pictures, least_um2=least_um2)


def all_tumor(run, *, tile_px):
    """A run whose tiles are all weak, and the shape of its mask with that many pixels a tile."""
    rows, columns = np.indices((run.geometry.rows, run.geometry.columns)).reshape(2, -1)
    tiles = replace(run.stored_tiles, row=rows, column=columns, tile_class=("weak",) * rows.size)
    shape = (run.geometry.rows * tile_px, run.geometry.columns * tile_px)
    return replace(run, stored_tiles=tiles), shape


def blobs(shape, *, seed, size=6.0, specks=0.5):
    """Tumour as it looks: nests with ragged edges, holes and specks."""
    rng = np.random.default_rng(seed)
    coarse, fine = (
        cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma) for sigma in (size, size / 8)
    )
    return coarse / coarse.std() + specks * fine / fine.std() > 0.5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(MASKS)
def test_outlines_are_valid_and_each_has_the_area_of_its_region(run, mask):
    found = list(outlines(run, mask))
    for strong, places in ((True, [STRONG]), (False, [STRONG, WEAK])):
        part = np.zeros_like(mask)
        for place in places:
            part[place] = mask[place]
        count, _, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=4)
        regions = [region for region in found if region.strong is strong]
        assert all(region.polygon.is_valid for region in regions)
        assert len(regions) == count - 1
        for region, area in zip(regions, sorted(stats[1:, cv2.CC_STAT_AREA])[::-1], strict=True):
            assert region.polygon.area == pytest.approx(area * PIXEL, rel=AREA_TOLERANCE + 1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_ragged_nests_become_smooth_and_keep_area_and_holes(run, seed):
    run, shape = all_tumor(run, tile_px=64)
    mask = blobs(shape, seed=seed)
    found = list(outlines(run, mask, least_um2=2500, px=64))
    exact = list(outlines(run, mask, least_um2=0, px=64))
    pixel_um2 = (2.5 * 512 / 64) ** 2
    kept = [outline for outline in exact if outline.area_mm2 * 1e6 >= 2500 + pixel_um2]
    assert all(outline.polygon.is_valid for outline in found)
    for outline, same in zip(found, kept, strict=False):
        assert outline.area_mm2 == pytest.approx(same.area_mm2, rel=2 * AREA_TOLERANCE)
    holes = [h for o in exact for h in o.polygon.interiors if shapely.Polygon(h).area > 9 * 64]
    left = [h for o in found for h in o.polygon.interiors]
    assert len(left) >= len(holes) > 3
    corners = sum(shapely.get_num_coordinates(outline.polygon) for outline in found)
    steps = int(np.abs(np.diff(mask.astype(int), axis=0)).sum() * 2)
    assert corners < 0.4 * steps


def test_specks_are_left_out_and_counted(run):
    mask = np.zeros((6 * PX, 8 * PX), bool)
    mask[:PX, 2 * PX : 2 * PX + 4] = True
    mask[0:2, 3 * PX - 2 : 3 * PX] = True
    mask[5, 3 * PX - 1] = True
    least = 5 * PIXEL_UM2
    found = outlines(run, mask, least_um2=least)
    assert [outline.strong for outline in found] == [False, True]
    assert found.left_out.regions == 2
    assert found.left_out.area_mm2 == pytest.approx(5 * PIXEL_UM2 / 1e6)
    assert len(list(outlines(run, mask, least_um2=0))) == 6


def test_pixels_that_touch_at_a_corner_only_are_two_regions(run):
    mask = np.zeros((6 * PX, 8 * PX), bool)
    mask[0:4, 2 * PX : 2 * PX + 4] = True
    mask[4:8, 2 * PX + 4 : 3 * PX] = True
    assert len([o for o in outlines(run, mask) if o.strong]) == 2


def test_straight_sides_and_their_corners_stay_where_they_are(run):
    mask = np.ones((6 * PX, 8 * PX), bool)
    found = {outline.strong: outline.polygon for outline in outlines(run, mask)}
    assert found[True].equals(shapely.box(1024, 0, 1536, 512))


def test_high_expression_lies_within_the_tumour(run):
    run, shape = all_tumor(run, tile_px=32)
    classes = ["strong" if column % 2 else "weak" for column in run.tiles.column]
    run = replace(run, stored_tiles=replace(run.stored_tiles, tile_class=tuple(classes)))
    found = list(outlines(run, blobs(shape, seed=7, size=30.0), px=32))
    tumor = shapely.union_all([outline.polygon for outline in found if not outline.strong])
    high = shapely.union_all([outline.polygon for outline in found if outline.strong])
    assert high.difference(tumor).area < AREA_TOLERANCE * high.area
    assert 0.2 * tumor.area < high.area < 0.8 * tumor.area


@pytest.mark.slow
def test_a_mask_of_the_largest_size_is_outlined_in_little_time_and_memory(run):
    run, shape = all_tumor(run, tile_px=204)  # two megapixels
    begun = time.process_time()
    count = sum(1 for _ in outlines(run, blobs(shape, seed=1), least_um2=2500, px=204))
    assert count > 500
    assert time.process_time() - begun < 60


def test_a_hole_is_left_out(run):
    mask = np.zeros((6 * PX, 8 * PX), bool)
    mask[:PX, 2 * PX : 3 * PX] = True
    mask[3:5, 2 * PX + 3 : 2 * PX + 5] = False
    (region, high) = outlines(run, mask, least_um2=PIXEL_UM2)
    assert len(region.polygon.interiors) == len(high.polygon.interiors) == 1
    assert region.polygon.bounds == (1024, 0, 1536, 512)
    assert region.area_mm2 == pytest.approx((PX * PX - 4) / PX**2 * (512 * 0.0025) ** 2)


def test_outlines_end_at_the_slides_edge(run):
    narrow = replace(run, geometry=replace(run.geometry, width=1100))
    mask = np.ones((6 * PX, 8 * PX), bool)
    bounds = [region.polygon.bounds[2] for region in outlines(narrow, mask)]
    assert max(bounds) == 1100


def test_a_slide_without_tumour_has_no_outline(run):
    found = outlines(run, np.zeros((6 * PX, 8 * PX), bool))
    assert list(found) == []
    assert found.left_out.regions == 0
    assert found.resolution_um == 2.5 * 512 / PX
