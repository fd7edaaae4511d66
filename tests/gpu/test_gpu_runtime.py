"""The CUDA runtime on a device, with simple kernels in place of TensorRT."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from captured_logs import capture_logs
from fake_device import classifiers, segmenter, tiles
from letter_slides import LIMITS, PICTURES, outcomes

from her2d.bundle.integrator import Integrator
from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import rules_of
from her2d.pipeline.slide_run import SlideCancelledError

pytestmark = pytest.mark.gpu
BATCHES = Batches(LIMITS.segmenter_batch, LIMITS.classifier_batch, kept=9)


@pytest.fixture
def opened(gpu):
    """A function that opens engines, which are all closed afterwards."""
    pytest.importorskip("pycuda.driver")
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc to compile the kernels")
    from kernel_network import KernelNetwork

    from her2d.inference.cuda.pycuda_device import PyCudaDevice

    engines: list[CudaEngine] = []

    def opened(batches: Batches = BATCHES, *, segmenter_room: int = 64) -> CudaEngine:
        device = PyCudaDevice()
        with device.current():
            segmenting = KernelNetwork(
                "segment_colours", ("tumor_pixels", "mask"), room_for=segmenter_room
            )
            classifying = KernelNetwork("classify_colours", ("p_strong",))
        engines.append(CudaEngine(device, segmenting, classifying, batches, backend="kernels"))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


def assert_right(engine: CudaEngine, batch: np.ndarray) -> None:
    found, expected = engine.segment(batch), segmenter(batch)
    assert np.array_equal(found.mask, expected["mask"])
    assert np.array_equal(found.tumor_pixels, expected["tumor_pixels"])
    assert engine.classify(batch) == pytest.approx(classifiers(batch)["p_strong"], abs=1e-5)


def test_full_batches_are_captured_and_every_batch_is_computed_afresh(opened):
    with capture_logs() as logs:
        engine = opened()
    assert [entry for entry in logs if entry["event"] == "cuda_graph_not_used"] == []
    for seed, n in enumerate((3, 3, 1, 2, 3, 7, 3)):
        assert_right(engine, tiles(n, seed))


def test_threads_that_segment_and_classify_at_once_get_their_own_tiles_back(opened):
    engine = opened(Batches(8, 8, kept=64))

    def work(seed: int) -> None:
        for round_ in range(6):
            assert_right(engine, tiles(1 + (seed + round_) % 8, 100 * seed + round_))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_kept_tiles_outlive_their_batch_and_are_classified_in_any_order(opened):
    engine = opened(Batches(4, 4, kept=16))
    for seed in range(8):
        pixels = tiles(4, seed)
        batch = engine.upload(list(pixels))
        batch.segment()
        kept = [batch.keep(index) for index in (3, 0, 2)]
        batch.release()
        # Meanwhile other batches use its slot.
        for other in range(3):
            engine.upload(list(tiles(4, 50 + other))).release()
        found = engine.classify_kept(kept)
        assert found == pytest.approx(classifiers(pixels[[3, 0, 2]])["p_strong"], abs=1e-5)


def test_a_batch_that_does_not_fit_is_run_in_halves(opened):
    engine = opened(Batches(4, 4, kept=16), segmenter_room=1)
    for seed in range(2):
        assert_right(engine, tiles(4, seed))


def test_slides_in_flight_together_get_what_onnxruntime_gives_them(
    opened, color_bundle, write_slide
):
    paths = [write_slide(rows, f"{number}.tif") for number, rows in enumerate(PICTURES)]
    reference = open_engine(color_bundle, backend="onnxruntime", threads=1)
    expectations = outcomes(reference, color_bundle, paths)
    for expected, found in zip(expectations, outcomes(opened(), color_bundle, paths), strict=True):
        assert np.array_equal(found.tile_class, expected.tile_class)
        assert found.score == expected.score


def test_cancelled_slides_leave_no_slot_taken(opened, color_bundle, write_slide):
    path = write_slide(PICTURES[3], "long.tif")
    with Pipeline(
        Her2Net(opened(), Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        for _ in range(5):
            cancel = threading.Event()
            slide = pipeline.submit(path, cancel=cancel, progress=lambda *_, c=cancel: c.set())
            with pytest.raises(SlideCancelledError):
                slide.result()
        assert pipeline.submit(path).result().score.high_expression_percent == pytest.approx(50.0)
