"""What blocks at half size change in a result: no tile's class."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from real_slides import CMU

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.pipeline import Pipeline
from her2d.simulator.plan import plan_slide
from her2d.simulator.render import render_region
from her2d.slides import reader
from her2d.slides.half_size import HALF_SIZE

BUNDLE = Path(__file__).parents[2] / "engines" / "her2net-demo"
TILE = 512


def real_tissue() -> np.ndarray:
    scan = tifffile.imread(CMU, key=0)
    return np.asarray(cv2.resize(scan, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def simulated_tissue() -> np.ndarray:
    plan = plan_slide("s3", 3, her2_status="positive", width=2048, height=2048)
    plan = replace(plan, magnification=40)
    rows = [
        [
            render_region(plan, x, y, TILE, TILE, magnification=40).rgb
            for x in range(10240, 15360, TILE)
        ]
        for y in range(7680, 9728, TILE)
    ]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("make", [real_tissue, simulated_tissue])
def test_no_tile_changes_its_class(make, tmp_path, monkeypatch):
    path = tmp_path / "scan.tif"
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, make(), **options, description="AppMag = 40")
    bundle = load_bundle(BUNDLE)
    engine = open_engine(bundle, backend="onnxruntime")
    with Pipeline(Her2Net(engine, Integrator(bundle))) as pipeline:
        at_half_size = pipeline.submit(path).result()
        monkeypatch.setattr(reader, "is_read_at_half_size", lambda *_: False)
        whole = pipeline.submit(path).result()
    engine.close()
    assert (at_half_size.metadata.decoding, whole.metadata.decoding) == (HALF_SIZE, None)
    np.testing.assert_array_equal(at_half_size.tile_class, whole.tile_class)
    np.testing.assert_allclose(at_half_size.tumor_pixels, whole.tumor_pixels, atol=262)
    assert at_half_size.score.her2_status == whole.score.her2_status
