"""What needs a CUDA device: skipped, with the driver's reason, where there is none."""

import pytest
from inference_bundles import write_bundle

from her2d.bundle import Bundle
from her2d.inference.cuda_driver import Gpu, NoGpuError, find_gpu
from her2d.simulator import plan_slide, render_region


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except NoGpuError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def slim_bundle(gpu, tmp_path_factory) -> Bundle:
    return write_bundle(
        tmp_path_factory.mktemp("slim") / "bundle",
        segmenter_width=1 / 4,
        classifier="resnet18",
        classifier_width=1 / 4,
    )


@pytest.fixture(scope="session")
def tissue(gpu):
    import numpy as np

    plan = plan_slide("tissue", 5, her2_status="positive", width=4096, height=4096)
    places = [(1024 + 512 * (i % 3), 1024 + 512 * (i // 3)) for i in range(8)]
    return np.stack([render_region(plan, x, y, 512, 512).rgb for x, y in places])
