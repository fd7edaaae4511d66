"""Tumour outlines: valid polygons of exactly the mask's pixels, in level-0 coordinates."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from her2d.results.export.outlines import tumor_outlines
from her2d.results.pictures import Pictures
from her2d.results.stored_run import read_run

PX = 8
MASKS = arrays(bool, (6 * PX, 8 * PX), elements=st.booleans(), fill=st.just(False))


@pytest.fixture
def run(db, record):
    """A grid of 8 x 6 tiles; (2, 0) strong and (1, 1) weak, as columns and rows."""
    return read_run(db, record())


def outlines(run, mask):
    tumor = mask.astype(np.uint8) * 255
    return tumor_outlines(run, Pictures(np.zeros((*mask.shape, 3), np.uint8), tumor, PX))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(MASKS)
def test_outlines_are_valid_and_have_the_area_of_the_tumour_in_tumour_tiles(run, mask):
    found = outlines(run, mask)
    pixel = (512 / PX) ** 2
    for strong, part in (
        (True, mask[:PX, 2 * PX : 3 * PX]),
        (False, mask[PX : 2 * PX, PX : 2 * PX]),
    ):
        polygons = [region.polygon for region in found.regions if region.strong is strong]
        assert all(polygon.is_valid for polygon in polygons)
        assert sum(polygon.area for polygon in polygons) == pytest.approx(part.sum() * pixel)
        assert shapely.union_all(polygons).area == pytest.approx(part.sum() * pixel)


def test_a_hole_is_left_out(run):
    mask = np.zeros((6 * PX, 8 * PX), bool)
    mask[:PX, 2 * PX : 3 * PX] = True
    mask[3:5, 2 * PX + 3 : 2 * PX + 5] = False
    (region,) = outlines(run, mask).regions
    assert len(region.polygon.interiors) == 1
    assert region.polygon.bounds == (1024, 0, 1536, 512)
    assert region.area_mm2 == pytest.approx((PX * PX - 4) / PX**2 * (512 * 0.0025) ** 2)


def test_outlines_end_at_the_slides_edge(run):
    narrow = replace(run, geometry=replace(run.geometry, width=1100))
    mask = np.ones((6 * PX, 8 * PX), bool)
    bounds = [region.polygon.bounds[2] for region in outlines(narrow, mask).regions]
    assert max(bounds) == 1100


def test_a_slide_without_tumour_has_no_outline(run):
    found = outlines(run, np.zeros((6 * PX, 8 * PX), bool))
    assert found.regions == ()
    assert found.resolution_um == 2.5 * 512 / PX
