"""Tiles a second of every GPU back end, beside the least time their arithmetic could take.

pytest -m 'gpu and benchmark' -s tests/benchmarks/test_gpu_rates.py
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from inference_bundles import write_bundle
from torch.utils.flop_counter import FlopCounterMode

from her2d.inference import EngineError, EngineOptions, open_engine
from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.networks import build_classifier, build_segmenter

pytestmark = [pytest.mark.gpu, pytest.mark.benchmark]
BATCHES = (1, 8, 32)
NETWORKS = {
    "segment": (build_segmenter, "segnet", 1),
    "classify": (build_classifier, "resnet50", 5),
}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    try:
        gpu = find_gpu()
    except NoGpuError as error:
        pytest.skip(str(error))
    print(f"\n{gpu}")
    return write_bundle(
        tmp_path_factory.mktemp("full") / "bundle",
        segmenter_width=1.0,
        classifier="resnet50",
        classifier_width=1.0,
    )


@pytest.fixture(scope="module")
def flops_a_second() -> float:
    """What a large fp16 matrix product reaches on this card."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.float16)

    def product() -> None:
        a @ a
        torch.cuda.synchronize()

    return 2 * side**3 / seconds(product)


def flops_of(part: str) -> int:
    """Multiplications and additions that one tile takes."""
    build, name, networks = NETWORKS[part]
    network = build(name).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 512, 512, device="meta"))
    return networks * counter.get_total_flops()


def seconds(run: Callable[[], object], turns: int = 10) -> float:
    """Median of `turns` runs, after three to warm up."""
    taken = []
    for _ in range(turns + 3):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[3:]))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("backend", "precision"),
    [("torch", "fp32"), ("torch", "fp16"), ("tensorrt", "fp16"), ("tensorrt_rtx", "fp16")],
)
def test_tiles_a_second(full_size, flops_a_second, backend, precision, batch):
    options = EngineOptions(precision, segmenter_batch=batch, classifier_batch=batch)
    try:
        engine = open_engine(full_size, backend=backend, options=options)
    except EngineError as error:
        pytest.skip(f"{backend} {precision}: {error}")
    tiles = np.random.default_rng(0).integers(0, 256, (batch, 512, 512, 3), dtype=np.uint8)
    for part in ("segment", "classify"):
        run = getattr(engine, part)
        rate = batch / seconds(lambda run=run: run(tiles))
        floor = flops_a_second / flops_of(part)
        print(
            f"{backend} {precision}, batch {batch}, {part}: {rate:.0f} tiles a second,"
            f" {rate / floor:.0%} of the floor"
        )
        assert rate > 0
    engine.close()
