"""CPU milliseconds that the quality of one tissue tile takes, on one thread.

make bench
"""

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from her2d.pipeline.quality import QualityLimits, measure_tile, optical_density, shrunk
from her2d.pipeline.tissue_folds import fold_mask
from her2d.simulator.plan import plan_slide
from her2d.simulator.render import render_region

pytestmark = pytest.mark.benchmark
REPEATS = 5


def test_cpu_time_of_a_tiles_quality():
    cv2.setNumThreads(1)
    plan = plan_slide("speed", 5, her2_status="positive", width=4096, height=4096)
    places = [(1024 + 512 * (n % 4), 1024 + 512 * (n // 4)) for n in range(16)]
    tiles = [render_region(plan, x, y, 512, 512).rgb for x, y in places]
    densities = [optical_density(shrunk(tile, 128)) for tile in tiles]
    tissue = np.ones((128, 128), np.bool_)
    everything = milliseconds(lambda n: measure_tile(tiles[n], QualityLimits()), len(tiles))
    folds = milliseconds(lambda n: fold_mask(densities[n], tissue), len(tiles))
    print(f"\nall measures {everything:.2f} ms a tile, of which folds {folds:.2f}")
    assert folds < everything


def milliseconds(measure: Callable[[int], object], tiles: int) -> float:
    found = []
    for _ in range(REPEATS + 1):  # the first one fills caches
        started = time.process_time()
        for number in range(tiles):
            measure(number)
        found.append((time.process_time() - started) / tiles * 1e3)
    return statistics.median(found[1:])
