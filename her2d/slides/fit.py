"""Lay the grid at 4x over a level of the pyramid."""

from her2d.method import MAGNIFICATION
from her2d.slides.errors import RefusedError
from her2d.slides.grid import TileGrid
from her2d.slides.scale import Scale
from her2d.slides.stream import Sampling

_ROUNDING = 1e-9
_MAX_TILES = 2**15  # of 512 pixels at 4x, 1.28 mm: a glass of 23 cm x 23 cm


def fit_grid(
    scale: Scale,
    *,
    width: int,
    height: int,
    downsample_x: float,
    downsample_y: float,
    as_is: bool,
) -> tuple[TileGrid, Sampling]:
    """Return the grid over a level, and the scale from the level to the grid.

    Args:
        scale: of the scan.
        width, height: pixels of the level.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
        as_is: the level's pixels are used without averaging.

    Raises:
        RefusedError: the scan is smaller than a pixel at 4x, or larger than any slide.
    """
    if as_is:
        downsample = (downsample_x * downsample_y) ** 0.5
        sampling = Sampling(1.0, 1.0, as_is=True)
    else:
        downsample = scale.downsample
        sampling = Sampling(downsample / downsample_x, downsample / downsample_y, as_is=False)
        # The grid has whole pixels only: a remainder of less than one at the edge is dropped.
        width = int(width / sampling.scale_x + _ROUNDING)
        height = int(height / sampling.scale_y + _ROUNDING)
    if min(width, height) < 1:
        raise RefusedError(f"is smaller than one pixel at {MAGNIFICATION:g}x")
    grid = TileGrid.covering(
        width, height, um_per_px=scale.level0_um * downsample, level0_downsample=downsample
    )
    if grid.columns * grid.rows > _MAX_TILES:
        raise RefusedError(
            f"would have {width} x {height} pixels at {MAGNIFICATION:g}x; no slide is that large"
        )
    return grid, sampling
