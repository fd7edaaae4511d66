"""Tiles of simulated tissue without slide files."""

import numpy as np
from numpy.typing import NDArray

from her2d.method import TILE_PX
from her2d.simulator.plan import plan_cohort
from her2d.simulator.render import render_region


def tissue_tiles(wanted: int) -> NDArray[np.uint8]:
    """Render tiles from the middle of simulated slides, where there is tissue.

    Args:
        wanted: number of tiles. Two calls return the same tiles.

    Returns:
        uint8 (wanted, 512, 512, 3).
    """
    plans = plan_cohort(-(-wanted // 4), 2025, positive_fraction=0.5, width=3072, height=2560)
    places = [(x, y) for y in (1024, 1536) for x in (1024, 1536)]
    regions = [render_region(plan, x, y, TILE_PX, TILE_PX) for plan in plans for x, y in places]
    return np.stack([region.rgb for region in regions[:wanted]])
