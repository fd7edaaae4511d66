"""The GPU runtime on a fake device that checks in which order work may happen."""

import threading

import numpy as np
import pytest
from fake_device import (
    FakeDevice,
    FakeEvent,
    FakeFixedRun,
    FakeGraph,
    FakeNetwork,
    classifiers,
    segmenter,
    tiles,
)

from her2d.inference.cuda.device import DeviceOutOfMemoryError
from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine

BATCHES = Batches(segmenter=4, classifiers=3, kept=12)


class Rig:
    """An engine on a fake device, with access to its parts."""

    def __init__(self, *, segmenter_room=64, most=64, batches=BATCHES) -> None:
        self.device = FakeDevice()
        self.segmenter = FakeNetwork(
            self.device, "segment", segmenter, room_for=segmenter_room, most=most
        )
        self.classifiers = FakeNetwork(self.device, "classify", classifiers, most=most)
        self.engine = CudaEngine(
            self.device, self.segmenter, self.classifiers, batches, backend="fake"
        )
        self.device.forget()
        self.segmenter.batches.clear()
        self.classifiers.batches.clear()

    def did(self, what: str):
        return [done for done in self.device.work if done.what == what]


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.engine.close()
    assert rig.device.hazards == []
    assert rig.device.live == set()


def test_arrays_of_any_length_give_what_onnxruntime_gives(rig, color_bundle):
    reference = OnnxRuntimeEngine(color_bundle, threads=1)
    batch = tiles(9)
    expected, found = reference.segment(batch), rig.engine.segment(batch)
    assert np.array_equal(found.mask, expected.mask)
    assert np.array_equal(found.tumor_pixels, expected.tumor_pixels)
    assert rig.engine.classify(batch) == pytest.approx(reference.classify(batch), abs=1e-5)


def test_its_sub_classifiers_are_one_network_that_computes_all_five(rig):
    assert "as one compiled network" in rig.engine.separate_folds_problem(1)
    with pytest.raises(EngineError, match="as one compiled network"):
        rig.engine.classify_fold([], 0)


def test_kept_tiles_are_classified_without_a_second_upload(rig):
    first, second = tiles(4, 1), tiles(4, 2)
    kept = []
    for uploaded in (first, second):
        batch = rig.engine.upload(list(uploaded))
        batch.segment()
        kept.append(batch.keep(3))
        batch.release()
    found = rig.engine.classify_kept(kept)
    assert found == pytest.approx(classifiers(np.stack([first[3], second[3]]))["p_strong"])
    assert len(rig.did("copy in")) == 2


def test_slots_are_used_over_and_over_without_a_hazard(rig):
    waiting = []
    for seed in range(12):
        uploaded = tiles(4, seed)
        batch = rig.engine.upload(list(uploaded))
        assert np.array_equal(batch.segment().mask, segmenter(uploaded)["mask"])
        waiting.append((batch.keep(seed % 4), uploaded[seed % 4]))
        batch.release()
        if len(waiting) == 3:
            found = rig.engine.classify_kept([tile for tile, _ in waiting])
            expected = classifiers(np.stack([pixels for _, pixels in waiting]))["p_strong"]
            assert found == pytest.approx(expected)
            waiting.clear()


def test_the_next_upload_may_overlap_segmentation_and_both_classification(rig):
    first = rig.engine.upload(list(tiles(4, 1)))
    kept = first.keep(0)
    second = rig.engine.upload(list(tiles(4, 2)))
    first.segment()
    rig.engine.classify_kept([kept])
    copies, (segmented,) = rig.did("copy in"), rig.did("segment")
    assert rig.device.may_overlap(copies[1], segmented)
    assert not rig.device.may_overlap(copies[0], segmented)
    assert len({copies[0].stream, segmented.stream, rig.did("classify")[0].stream}) == 3
    for batch in (first, second):
        batch.release()


def test_the_slot_of_an_abandoned_upload_is_reused_safely(rig):
    for seed in range(5):
        rig.engine.upload(list(tiles(4, seed))).release()
    uploaded = tiles(2, 9)
    batch = rig.engine.upload(list(uploaded))
    assert np.array_equal(batch.segment().mask, segmenter(uploaded)["mask"])
    batch.release()


def test_released_kept_tiles_make_room(rig):
    for seed in range(10):
        batch = rig.engine.upload(list(tiles(4, seed)))
        kept = [batch.keep(index) for index in range(4)]
        batch.release()
        for tile in kept:
            tile.release()
            tile.release()


def test_uploads_wait_while_every_slot_is_taken(rig):
    held = [rig.engine.upload(list(tiles(1))) for _ in range(3)]
    uploaded = threading.Event()

    def upload() -> None:
        rig.engine.upload(list(tiles(1))).release()
        uploaded.set()

    thread = threading.Thread(target=upload)
    thread.start()
    assert not uploaded.wait(0.3)
    for batch in held:
        batch.release()
    thread.join(10)
    assert uploaded.is_set()


def test_a_network_compiled_for_fewer_tiles_gets_them_in_parts():
    rig = Rig(most=2)
    batch = tiles(4)
    assert np.array_equal(rig.engine.segment(batch).mask, segmenter(batch)["mask"])
    assert rig.segmenter.batches == [2, 2]
    rig.engine.close()
    assert rig.device.hazards == []


def test_out_of_memory_halves_the_batch_and_goes_on():
    rig = Rig(segmenter_room=1)
    batch = tiles(4)
    for _ in range(2):
        assert np.array_equal(rig.engine.segment(batch).mask, segmenter(batch)["mask"])
    assert rig.segmenter.batches == [1] * 8
    rig.engine.close()
    assert rig.device.hazards == []


def test_no_memory_for_a_single_tile_is_an_error_and_holds_nothing():
    rig = Rig(segmenter_room=0)
    for _ in range(5):
        with pytest.raises(DeviceOutOfMemoryError, match="out of memory"):
            rig.engine.segment(tiles(1))
    rig.engine.close()
    assert rig.device.live == set()


def test_no_memory_for_the_buffers_leaves_nothing_behind():
    device = FakeDevice(room=20_000_000)
    networks = [FakeNetwork(device, "n", segmenter), FakeNetwork(device, "n", classifiers)]
    with pytest.raises(DeviceOutOfMemoryError):
        CudaEngine(device, *networks, BATCHES, backend="fake")
    assert device.live == set()
    assert device.closed
    assert all(network.closed for network in networks)


@pytest.mark.slow
def test_an_error_at_any_allocation_frees_all_earlier_ones_last_first(monkeypatch):
    """The engine is opened once for each allocation, which then fails."""
    opened = FakeDevice()
    networks = [FakeNetwork(opened, "n", segmenter), FakeNetwork(opened, "n", classifiers)]
    CudaEngine(opened, *networks, BATCHES, backend="fake").close()
    assert opened.live == set()
    before_graphs = 0
    for number in range(len(opened.handed_out)):
        device = FakeDevice(fails_at=number)
        networks = [FakeNetwork(device, "n", segmenter), FakeNetwork(device, "n", classifiers)]
        with pytest.raises(EngineError, match="an error that passes"):
            CudaEngine(device, *networks, BATCHES, backend="fake")
        assert (device.live, device.hazards, device.closed) == (set(), [], True)
        if not any(isinstance(each, FakeFixedRun) for each in device.handed_out):
            # Graphs are freed with their network, whose other resources are older.
            assert device.freed == [id(each) for each in reversed(device.handed_out)]
            before_graphs += 1
    assert before_graphs > 20


def test_a_resource_that_cannot_be_freed_does_not_keep_the_others(rig, monkeypatch):
    free = FakeEvent.free

    def fail(event):
        free(event)
        raise EngineError("CUDA failed: an error that passes")

    monkeypatch.setattr(FakeEvent, "free", fail)
    rig.engine.close()
    assert rig.device.live == set()
    assert rig.device.closed


def test_a_failed_classification_releases_its_tiles(rig, monkeypatch):
    def lost(*_):
        raise DeviceLostError("The GPU is lost to this process.")

    monkeypatch.setattr(rig.classifiers, "enqueue", lost)
    monkeypatch.setattr(FakeGraph, "launch", lost)
    for seed in range(6):
        batch = rig.engine.upload(list(tiles(3, seed)))
        kept = [batch.keep(index) for index in range(3)]
        batch.release()
        with pytest.raises(DeviceLostError):
            rig.engine.classify_kept(kept)


def test_tiles_of_another_shape_are_refused(rig):
    with pytest.raises(EngineError, match=r"batch of 1 tiles.*512, 512, 3"):
        rig.engine.upload([np.zeros((256, 256, 3), np.uint8)])


def test_more_tiles_than_a_slot_holds_are_refused(rig):
    with pytest.raises(EngineError, match="up to 4"):
        rig.engine.upload(list(tiles(5)))


def test_closing_releases_everything_once(rig):
    rig.engine.close()
    rig.engine.close()
    assert rig.device.live == set()
    assert rig.device.closed
    assert rig.segmenter.closed
    assert rig.classifiers.closed


def test_closing_waits_for_abandoned_uploads(rig):
    abandoned = rig.engine.upload(list(tiles(4)))
    abandoned.keep(1)
    abandoned.release()
    rig.engine.upload(list(tiles(2)))
    rig.engine.close()
    assert rig.device.hazards == []
    last = {done.stream: done.count for done in rig.device.work}
    assert last
    assert all(rig.device.host[stream] >= count for stream, count in last.items())


def test_an_error_while_closing_waits_still_releases_everything(rig, monkeypatch):
    def fail(_):
        raise EngineError("CUDA failed: an error that passes")

    rig.engine.classify(tiles(2))
    monkeypatch.setattr(FakeEvent, "synchronize", fail)
    rig.engine.close()
    assert rig.device.live == set()
    assert rig.device.closed
    assert rig.segmenter.closed
    rig.device.hazards.clear()


def test_closing_on_a_lost_device_leaves_it_alone():
    rig = Rig()
    rig.device.lost = True
    rig.engine.close()
    assert not rig.device.closed


def test_closing_ends_the_wait_for_a_slot(rig):
    for _ in range(3):
        rig.engine.upload(list(tiles(1)))
    failed: list[EngineError] = []

    def upload() -> None:
        try:
            rig.engine.upload(list(tiles(1)))
        except EngineError as error:
            failed.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    rig.engine.close()
    thread.join(10)
    assert [str(error) for error in failed] == ["The engine was closed."]


@pytest.mark.parametrize("skipped", ["wait", "synchronize"])
def test_the_fake_device_notices_an_event_that_nobody_waited_for(monkeypatch, skipped):
    """Without this check the tests above would prove nothing."""
    from fake_device import FakeStream

    owner = FakeStream if skipped == "wait" else FakeEvent
    monkeypatch.setattr(owner, skipped, lambda *_: None)
    rig = Rig()
    batch = rig.engine.upload(list(tiles(2)))
    batch.segment()
    batch.release()
    assert any("not ordered" in hazard for hazard in rig.device.hazards)
