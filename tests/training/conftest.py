"""A grid and slides to train on in seconds."""

import pytest

from her2d.slides import TileGrid


@pytest.fixture
def grid() -> TileGrid:
    """2 x 2 tiles of a 40x scan: ten level-0 pixels to one of the grid's."""
    return TileGrid.covering(1000, 900, um_per_px=2.5, level0_downsample=10.0)
