"""The share of time that each step takes in one run with the shipped bundle.

make bench
"""

import time
from pathlib import Path

import pytest

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide
from her2d.slides.reader import open_slide

pytestmark = pytest.mark.benchmark
BUNDLE = Path(__file__).parents[2] / "engines" / "her2net-demo"


def test_shares_of_decoding_segmenting_and_classifying(tmp_path):
    plan = plan_slide("speed", 3, her2_status="positive", width=4096, height=4096)
    write_he_slide(plan, tmp_path / "speed.tif")
    started = time.perf_counter()
    with open_slide(tmp_path / "speed.tif") as slide:
        tiles = sum(1 for _ in slide.tiles(workers=1))
    decoding = time.perf_counter() - started
    bundle = load_bundle(BUNDLE)
    engine = open_engine(bundle, backend="auto")
    with Pipeline(Her2Net(engine, Integrator(bundle))) as pipeline:
        started = time.perf_counter()
        outcome = pipeline.submit(tmp_path / "speed.tif").result()
        whole = time.perf_counter() - started
        busy = {stage.name: stage.busy_s for stage in (pipeline.segmenting, pipeline.classifying)}
    engine.close()
    tissue = tiles - outcome.count(TileClass.BACKGROUND)
    print(
        f"\n{tiles} tiles, {tissue} tissue: {whole:.1f} s,"
        f" {tissue / whole:.1f} tissue tiles per second"
    )
    print(f"decoding alone: {decoding / whole:.0%} of the whole run")
    for name, seconds in busy.items():
        print(f"{name}: busy {seconds / whole:.0%} of it")
    assert max(busy.values()) <= whole
