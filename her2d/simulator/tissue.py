"""Tiles of simulated tissue, for those who want tiles and no slide."""

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.plan import plan_cohort
from her2d.simulator.render import render_region


def tissue_tiles(wanted: int) -> NDArray[np.uint8]:
    """Tiles from the middle of simulated slides, where the tissue is; the same ones each time.

    Returns:
        uint8 (wanted, 512, 512, 3).
    """
    plans = plan_cohort(-(-wanted // 4), 2025, positive_fraction=0.5, width=3072, height=2560)
    places = [(x, y) for y in (1024, 1536) for x in (1024, 1536)]
    regions = [render_region(plan, x, y, 512, 512) for plan in plans for x, y in places]
    return np.stack([region.rgb for region in regions[:wanted]])
