"""Deep-zoom tiles: each level is covered exactly, and no tile lies beyond it."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.browse.asgi import BadParameter
from her2d.browse.pages import ListQuery, gauge_of
from her2d.browse.zoom import TILE, NoSuchTile, ZoomGrid, tile_from_picture, tile_from_scan
from her2d.results.listing import SortKey
from her2d.results.records import SlideResult
from her2d.slides.levels import open_levels

SIDES = st.integers(1, 9000)


@given(SIDES, SIDES, st.integers(0, 14))
def test_tiles_of_a_level_cover_the_slide_once(width, height, below):
    grid = ZoomGrid(width, height)
    level = max(0, grid.max_level - below)
    scale = 2 ** (grid.max_level - level)
    columns, rows = -(-width // (TILE * scale)), -(-height // (TILE * scale))
    boxes = [grid.box(level, column, row) for column in range(columns) for row in range(rows)]
    assert sum((b.right - b.left) * (b.bottom - b.top) for b in boxes) == width * height
    assert all(1 <= b.width <= TILE and 1 <= b.height <= TILE for b in boxes)
    for column, row in ((columns, 0), (0, rows), (-1, 0)):
        with pytest.raises(NoSuchTile):
            grid.box(level, column, row)


@given(SIDES, SIDES)
def test_the_last_level_is_level_0_and_the_first_a_single_pixel(width, height):
    grid = ZoomGrid(width, height)
    assert (
        2 ** (grid.max_level - 1) < max(width, height) <= 2**grid.max_level or grid.max_level == 0
    )
    first = grid.box(0, 0, 0)
    assert (first.width, first.height) == (1, 1)


def test_a_tile_far_coarser_than_the_scans_levels_is_left_to_the_small_picture(write_slide):
    levels = open_levels(write_slide(["Sw" * 10] * 2))
    grid = ZoomGrid(10240, 1024)
    assert tile_from_scan(levels, grid.box(grid.max_level - 4, 0, 0)) is None
    picture = np.zeros((20, 200, 3), np.uint8)
    picture[:, 100:] = 200
    whole = tile_from_picture(picture, grid, grid.box(8, 0, 0))
    assert whole.shape == (16, 160, 3)
    assert (whole[:, :78] == 0).all()
    assert (whole[:, 82:] == 200).all()


def test_a_scans_levels_are_read_a_rectangle_at_a_time(write_slide):
    levels = open_levels(write_slide(["Sw", "s."]))
    assert [(level.width, level.height) for level in levels.levels] == [(1024, 1024)]
    region = levels.region(0, 500, 500, 24, 24)
    corners = [tuple(region[y, x]) for y in (0, -1) for x in (0, -1)]
    assert corners == [(99, 104, 164), (60, 20, 120), (230, 150, 190), (245, 245, 245)]
    with pytest.raises(ValueError, match="not within level 0"):
        levels.region(0, 1000, 0, 25, 10)


def result(percent=10.0, low=5.0, high=100.0, threshold=10.0) -> SlideResult:
    return SlideResult.model_construct(
        high_expression_percent=percent, ci_low=low, ci_high=high, threshold_percent=threshold
    )


def test_the_papers_threshold_stands_at_a_third_of_the_line():
    gauge = gauge_of(result())
    assert gauge.value == gauge.threshold == pytest.approx(31.6, abs=0.1)
    assert gauge.low < gauge.value < gauge.high == 100
    assert gauge_of(result(None, None, None)).value is None


def test_the_line_shows_the_threshold_of_the_bundle_that_scored_the_slide():
    gauge = gauge_of(result(threshold=7.0))
    assert gauge.threshold == pytest.approx(26.5, abs=0.1)
    assert [tick for tick, _ in gauge.ticks] == [0, 7, 25, 50, 100]
    assert [tick for tick, _ in gauge_of(result()).ticks] == [0, 10, 25, 50, 100]


NAMES = st.sampled_from(["text", "status", "flag", "reason", "sort", "page"])
VALUES = st.text() | st.sampled_from(["positive", "borderline", "no-tumor", "name", "3"])


@given(st.dictionaries(NAMES, VALUES))
def test_any_parameters_make_a_query_or_a_sentence(given_parameters):
    query = None
    with contextlib.suppress(BadParameter):
        query = ListQuery.of(given_parameters)
    assert query is None or (query.page >= 1 and query.url().startswith("/"))


def test_choosing_a_filter_keeps_the_others_and_starts_at_page_1():
    query = ListQuery.of(
        {
            "text": "biopsy",
            "status": "positive",
            "flag": "borderline",
            "reason": "no-tumor",
            "sort": "percent",
            "page": "3",
        }
    )
    assert query.sort is SortKey.PERCENT
    assert query.url(status="negative") == (
        "/?text=biopsy&status=negative&flag=borderline&reason=no-tumor&sort=percent"
    )
