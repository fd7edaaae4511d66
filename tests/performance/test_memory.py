"""`her2d scan` needs no more memory for a slide of 20,000 tiles than for one of 400.

make bench        prints both peaks and their ratio
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from her2d.simulator.plan import plan_slide
from her2d.simulator.render import render_region

TILE = 512
pytestmark = pytest.mark.benchmark


def tissue() -> list[np.ndarray]:
    """Render tiles that compress as badly as tissue; inverted, so that they count as tumour."""
    plan = plan_slide("memory", 3, her2_status="positive", width=4096, height=4096)
    return [
        255 - render_region(plan, 1024 + TILE * x, 1024 + TILE * y, TILE, TILE).rgb
        for x in range(4)
        for y in range(4)
    ]


def write(path: Path, rows: int, columns: int, tiles: list[np.ndarray]) -> Path:
    def repeated() -> Iterator[np.ndarray]:
        for index in range(rows * columns):
            yield tiles[index % len(tiles)]

    tifffile.imwrite(
        path,
        repeated(),
        shape=(rows * TILE, columns * TILE, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 40},
        description="AppMag = 4|MPP = 2.5",
        metadata=None,
        bigtiff=True,
    )
    return path


def peak_mib(folder: Path, slide: Path) -> float:
    """Measure the peak resident memory of a `her2d scan` process, in MiB."""
    arguments = ["-m", "her2d", "scan", str(slide), "--config", str(folder / "config.toml")]
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *arguments])
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss / 1024


def test_memory_does_not_grow_with_the_slide(tmp_path, color_bundle):
    (tmp_path / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[inference]\nthreads = 1\n'
    )
    tiles = tissue()
    small = peak_mib(tmp_path, write(tmp_path / "small.tif", 20, 20, tiles))
    large = peak_mib(tmp_path, write(tmp_path / "large.tif", 125, 160, tiles))
    print(f"\npeak RSS: 400 tiles {small:.0f} MiB, 20,000 tiles {large:.0f} MiB")
    print(f"ratio {large / small:.3f} (limit: 1.15)")
    assert large <= 1.15 * small
