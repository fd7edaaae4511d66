"""Slim networks with random weights, and tissue to run them on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built_once import built_once, run_folder
from inference_bundles import write_bundle

from her2d.bundle.loading import Bundle, load_bundle
from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.simulator.plan import plan_slide
from her2d.simulator.render import render_region


@pytest.fixture(scope="session")
def slim_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the shipped one's architecture with fewer channels."""

    def build(folder: Path) -> None:
        write_bundle(
            folder / "bundle",
            segmenter_width=1 / 16,
            classifier="resnet18",
            classifier_width=1 / 8,
        )

    return load_bundle(built_once(run_folder(tmp_path_factory) / "slim", build) / "bundle")


@pytest.fixture(scope="session")
def tissue() -> Callable[[int], np.ndarray]:
    """A function of n <= 6 that returns simulated tumour tiles, uint8 (n, 512, 512, 3)."""
    plan = plan_slide("tissue", 5, her2_status="positive", width=4096, height=4096)
    places = [(1024 + 512 * (i % 3), 1024 + 512 * (i // 3)) for i in range(6)]
    rendered = np.stack([render_region(plan, x, y, 512, 512).rgb for x, y in places])
    return lambda n: rendered[:n].copy()


@pytest.fixture
def without_gpu() -> None:
    """Skip a test of what happens without a GPU where there is one."""
    try:
        gpu = find_gpu()
    except NoGpuError:
        return
    pytest.skip(f"there is a GPU: {gpu.name}")
