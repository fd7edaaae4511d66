"""Decoding in the thread that receives, which one CPU has, beside decoding in one more thread.

make bench
"""

import os
import statistics
import time
from pathlib import Path

import pytest

from her2d.pipeline.quality import QualityLimits
from her2d.slides import stream
from her2d.slides.reader import open_slide
from tools.peers.slides import whole_tissue, write_layouts

pytestmark = pytest.mark.benchmark
ROUNDS = 9


def test_cpu_time_of_reading_on_one_cpu(tmp_path, monkeypatch):
    allowed = os.sched_getaffinity(0)
    layouts = write_layouts(tmp_path, whole_tissue(QualityLimits()))
    try:
        os.sched_setaffinity(0, {min(allowed)})
        for layout in layouts[:2]:
            # In turns, so that what else the machine does slows both.
            took: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(ROUNDS):
                for cpus, found in took.items():
                    monkeypatch.setattr(stream, "usable_cpus", lambda cpus=cpus: cpus)
                    found.append(milliseconds(layout.path, layout.passes))
            ratios = [one / two for one, two in zip(took[1], took[2], strict=True)]
            print(
                f"\n{layout.name}: {statistics.median(took[1]):.2f} ms a tile, in one more thread"
                f" {statistics.median(took[2]):.2f}; ratio {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f})"
            )
            assert min(took[1]) > 0
    finally:
        os.sched_setaffinity(0, allowed)


def milliseconds(path: Path, passes: int) -> float:
    """The processor time of a tile, opening included."""
    started, tiles = time.process_time(), 0
    for _ in range(passes):
        with open_slide(path) as slide:
            tiles += sum(1 for _ in slide.tiles(workers=1))
    return (time.process_time() - started) / tiles * 1e3
