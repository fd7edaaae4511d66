"""A grid and slides to train on in seconds."""

from collections.abc import Iterator

import pytest
import torch

from her2d.slides.grid import TileGrid


@pytest.fixture(autouse=True)
def determinism_as_before() -> Iterator[None]:
    """Lightning asks torch for it, for the whole process; the next test's must be as it was."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def grid() -> TileGrid:
    """2 x 2 tiles of a 40x scan: ten level-0 pixels to one of the grid's."""
    return TileGrid.covering(1000, 900, um_per_px=2.5, level0_downsample=10.0)
