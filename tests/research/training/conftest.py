"""Fixtures for training tests."""

from collections.abc import Iterator

import pytest
import torch

from her2d.slides.grid import TileGrid


@pytest.fixture(autouse=True)
def reset_determinism() -> Iterator[None]:
    """Turn off the deterministic mode that Lightning enables for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def grid() -> TileGrid:
    """Return the grid of 2 x 2 tiles of a 40x scan, with ten level-0 pixels per grid pixel."""
    return TileGrid.covering(1000, 900, um_per_px=2.5, level0_downsample=10.0)
