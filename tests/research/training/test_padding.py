"""How much of a prepared tile is scan."""

import numpy as np

from her2d.research.training.padding import outside_scan, scan_extent


def tile(height: int, width: int) -> np.ndarray:
    """A tile of 8 x 8 with scan in its upper left corner, a white hole in it."""
    pixels = np.full((8, 8, 3), 255, np.uint8)
    pixels[:height, :width] = 100
    pixels[:1, :1] = 255
    return pixels


def test_white_rows_and_columns_at_the_end_are_not_scan():
    assert scan_extent(tile(8, 8)) == (8, 8)
    assert scan_extent(tile(5, 3)) == (3, 5)


def test_a_white_tile_holds_no_scan():
    assert scan_extent(tile(0, 0)) == (0, 0)


def test_white_within_the_scan_is_scan():
    outside = outside_scan(np.stack([tile(5, 3), tile(8, 8)]))
    assert not outside[0, :5, :3].any()
    assert outside[0].sum() == 64 - 15
    assert not outside[1].any()
