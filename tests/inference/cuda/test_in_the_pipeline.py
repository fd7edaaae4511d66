"""The pipeline's threads on the GPU runtime: correct, ordered, and each tile uploaded once."""

import threading

import numpy as np
import pytest
from fake_device import FakeDevice, FakeGraph, FakeNetwork, classifiers, segmenter
from letter_slides import LIMITS, PICTURES, outcomes

from her2d.bundle.integrator import Integrator
from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.cuda.network_runner import TILE_BYTES
from her2d.inference.engine import DeviceLostError
from her2d.inference.selection import open_engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import rules_of
from her2d.pipeline.slide_run import SlideCancelledError


class Rig:
    def __init__(self) -> None:
        self.device = FakeDevice()
        self.segmenter = FakeNetwork(self.device, "segment", segmenter, most=2)
        self.classifiers = FakeNetwork(self.device, "classify", classifiers)
        batches = Batches(LIMITS.segmenter_batch, LIMITS.classifier_batch, kept=9)
        self.engine = CudaEngine(
            self.device, self.segmenter, self.classifiers, batches, backend="fake"
        )
        self.device.forget()
        self.classifiers.batches.clear()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.engine.close()
    assert rig.device.hazards == []
    assert rig.device.live == set()


@pytest.fixture
def slides(write_slide):
    return [write_slide(rows, f"{number}.tif") for number, rows in enumerate(PICTURES)]


def cancelled_in_progress(pipeline, path):
    cancel = threading.Event()
    return pipeline.submit(path, cancel=cancel, progress=lambda *_: cancel.set())


def test_slides_in_flight_together_get_what_onnxruntime_gives_them(rig, color_bundle, slides):
    reference = open_engine(color_bundle, backend="onnxruntime", threads=1)
    expected = outcomes(reference, color_bundle, slides)
    for found, wanted in zip(outcomes(rig.engine, color_bundle, slides), expected, strict=True):
        assert np.array_equal(found.tile_class, wanted.tile_class)
        assert found.score == wanted.score


def test_each_tissue_tile_crosses_the_bus_once_and_each_tumor_tile_moves_on_the_device(
    rig, color_bundle, slides
):
    outcomes(rig.engine, color_bundle, slides)
    letters = "".join(letter for rows in PICTURES for row in rows for letter in row)
    tissue, tumor = len(letters.replace(".", "")), sum(letters.count(each) for each in "Swh")
    assert rig.device.uploaded_bytes == tissue * TILE_BYTES
    # Into the pool, and from there to the classifiers' batch.
    assert sum(done.what == "copy" for done in rig.device.work) == 2 * tumor
    assert sum(rig.classifiers.batches) == tumor


def test_cancelled_slides_leave_no_slot_and_no_kept_tile_taken(rig, color_bundle, slides):
    with Pipeline(
        Her2Net(rig.engine, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        for _ in range(5):
            with pytest.raises(SlideCancelledError):
                cancelled_in_progress(pipeline, slides[3]).result()
        assert pipeline.submit(slides[1]).result().score.high_expression_percent == 100.0


def test_a_lost_device_fails_every_slide_and_hangs_none(rig, color_bundle, slides, monkeypatch):
    def lost(*_):
        rig.device.lost = True
        raise DeviceLostError("The GPU is lost to this process.")

    monkeypatch.setattr(rig.classifiers, "enqueue", lost)
    monkeypatch.setattr(FakeGraph, "launch", lost)
    with Pipeline(
        Her2Net(rig.engine, Integrator(color_bundle)), rules_of(color_bundle), LIMITS
    ) as pipeline:
        for _ in range(3):
            futures = [pipeline.submit(path) for path in slides]
            for future in futures:
                assert isinstance(future.exception(timeout=60), DeviceLostError)
        assert all(thread.is_alive() for thread in stage_threads())
    rig.device.lost = False


def stage_threads() -> list[threading.Thread]:
    """Return the pipeline's threads for uploading, segmenting and classifying."""
    names = {"her2d-upload", "her2d-segment", "her2d-classify"}
    found = [thread for thread in threading.enumerate() if thread.name in names]
    assert {thread.name for thread in found} == names
    return found
