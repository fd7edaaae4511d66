"""CUDA graphs of full batches: correct, ordered, and used only where they match the plain run."""

import ctypes.util

import numpy as np
import pytest
from captured_logs import capture_logs
from fake_device import (
    FakeDevice,
    FakeGraph,
    FakeNetwork,
    FakeStream,
    classifiers,
    segmenter,
    tiles,
)

from her2d.inference.cuda.device import DeviceOutOfMemoryError, NotCapturableError
from her2d.inference.cuda.driver_graph import capture, load_driver
from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.engine import EngineError

BATCHES = Batches(segmenter=4, classifiers=3, kept=12)


def opened(device, segmenting=None, classifying=None) -> CudaEngine:
    engine = CudaEngine(
        device,
        segmenting or FakeNetwork(device, "segment", segmenter),
        classifying or FakeNetwork(device, "classify", classifiers),
        BATCHES,
        backend="fake",
    )
    device.forget()
    return engine


@pytest.fixture
def device():
    device = FakeDevice()
    yield device
    assert device.hazards == []
    assert device.live == set()


def test_full_batches_are_launched_and_others_enqueued(device):
    engine = opened(device)
    for n, launches in ((4, 1), (3, 1), (1, 1), (4, 2)):
        engine.segment(tiles(n))
        assert device.launches == launches
    engine.classify(tiles(3))
    assert device.launches == 3
    engine.close()


def test_every_launch_computes_the_tiles_that_are_there_at_that_time(device):
    """Every upload slot is used, with smaller batches in between."""
    engine = opened(device)
    for seed in range(9):
        for n in (4, 2):
            batch = tiles(n, seed)
            assert np.array_equal(engine.segment(batch).mask, segmenter(batch)["mask"])
        kept = tiles(3, seed)
        assert engine.classify(kept) == pytest.approx(classifiers(kept)["p_strong"])
    assert device.launches == 18
    engine.close()


def test_a_network_that_cannot_be_captured_runs_without_and_says_why(device):
    network = FakeNetwork(device, "segment", segmenter, capturable=False)
    with capture_logs() as logs:
        engine = opened(device, segmenting=network)
    (entry,) = [each for each in logs if each["event"] == "cuda_graph_not_used"]
    assert (entry["network"], entry["reason"]) == ("segmenter", "It waits for the host.")
    assert np.array_equal(engine.segment(tiles(4)).mask, segmenter(tiles(4))["mask"])
    assert device.launches == 0
    engine.close()


def forgets(graph: FakeGraph) -> None:
    graph.work.clear()


def gives_other_numbers(graph: FakeGraph) -> None:
    item = graph.work[0]
    memory, at, nbytes = item.writes[0]

    def do() -> None:
        item.do()
        memory.data[at + nbytes - 1] ^= 1

    graph.work[0] = type(item)(item.what, item.reads, item.writes, do)


@pytest.mark.parametrize("spoil", [forgets, gives_other_numbers])
def test_a_graph_whose_outputs_differ_from_the_plain_runs_is_not_used(device, monkeypatch, spoil):
    record = device.capture

    def spoiled(*arguments):
        graph = record(*arguments)
        spoil(graph)
        return graph

    monkeypatch.setattr(device, "capture", spoiled)
    with capture_logs() as logs:
        engine = opened(device)
    reasons = {entry["network"]: entry["reason"] for entry in logs}
    assert set(reasons) == {"segmenter", "classifiers"}
    assert all("outputs differ from the plain run's" in reason for reason in reasons.values())
    assert np.array_equal(engine.segment(tiles(4)).mask, segmenter(tiles(4))["mask"])
    assert device.launches == 0
    engine.close()


def test_a_full_batch_without_room_is_not_captured_and_runs_in_halves(device):
    network = FakeNetwork(device, "segment", segmenter, room_for=2)
    engine = opened(device, segmenting=network)
    network.batches.clear()
    assert np.array_equal(engine.segment(tiles(4)).mask, segmenter(tiles(4))["mask"])
    assert (network.batches, device.launches) == ([2, 2], 0)
    engine.close()


def test_a_launch_without_room_is_halved_and_not_tried_again(device, monkeypatch):
    network = FakeNetwork(device, "segment", segmenter)
    engine = opened(device, segmenting=network)
    tried = []

    def full(graph, stream):
        tried.append(graph)
        raise DeviceOutOfMemoryError("The GPU is out of memory.")

    monkeypatch.setattr(FakeGraph, "launch", full)
    network.batches.clear()
    for _ in range(2):
        assert np.array_equal(engine.segment(tiles(4)).mask, segmenter(tiles(4))["mask"])
    assert (network.batches, len(tried)) == ([2, 2, 2, 2], 1)
    engine.close()


def test_the_fake_device_notices_a_launch_that_waits_for_nothing(monkeypatch):
    """Without this check the tests above would prove nothing."""
    device = FakeDevice()
    engine = opened(device)
    monkeypatch.setattr(FakeStream, "wait", lambda *_: None)
    engine.segment(tiles(4))
    assert any("segment is not ordered after copy in" in hazard for hazard in device.hazards)


class FakeDriver:
    """The driver's calls for graphs; each is recorded and returns its status in `failing`, or 0."""

    def __init__(self, nodes: int = 3, **failing: int) -> None:
        self.calls: list[str] = []
        self.nodes = nodes
        self.failing = failing

    def __getattr__(self, name: str):
        def call(*arguments) -> int:
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            if name == "cuStreamEndCapture":
                arguments[1]._obj.value = 77
            if name == "cuGraphGetNodes":
                arguments[2]._obj.value = self.nodes
            if name == "cuGraphInstantiateWithFlags":
                arguments[0]._obj.value = 88
            return 0

        return call


def test_a_capture_calls_the_driver_in_order_and_keeps_only_the_executable_graph():
    driver = FakeDriver()
    graph = capture(driver, 1, lambda: driver.calls.append("work"))
    graph.launch(1)
    assert (graph.free(), graph.free()) == (0, 0)
    assert driver.calls == [
        "cuStreamBeginCapture_v2",
        "work",
        "cuStreamEndCapture",
        "cuGraphGetNodes",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (FakeDriver(cuStreamBeginCapture_v2=801), "cannot begin to capture: CUDA error 801"),
        (FakeDriver(cuStreamEndCapture=901), "cannot end the capture: CUDA error 901"),
        (FakeDriver(nodes=0), "Nothing was captured"),
        (FakeDriver(cuGraphInstantiateWithFlags=2), "cannot instantiate the graph: CUDA error 2"),
    ],
)
def test_what_the_driver_refuses_is_a_reason(driver, reason):
    with pytest.raises(NotCapturableError, match=reason):
        capture(driver, 1, lambda: None)
    if "cuGraphGetNodes" in driver.calls:
        assert driver.calls[-1] == "cuGraphDestroy"


def test_work_that_fails_during_a_capture_ends_the_capture():
    def fails() -> None:
        raise EngineError("operation not permitted when stream is capturing")

    driver = FakeDriver()
    with pytest.raises(NotCapturableError, match="not permitted when stream is capturing"):
        capture(driver, 1, fails)
    assert driver.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]


@pytest.mark.parametrize(("status", "error"), [(2, DeviceOutOfMemoryError), (700, EngineError)])
def test_a_launch_that_fails_says_whether_fewer_tiles_may_help(status, error):
    graph = capture(FakeDriver(cuGraphLaunch=status), 1, lambda: None)
    with pytest.raises(EngineError) as failed:
        graph.launch(1)
    assert type(failed.value) is error


def test_a_driver_without_graphs_is_a_reason():
    with pytest.raises(NotCapturableError, match="has no CUDA graphs"):
        load_driver(ctypes.util.find_library("c"))
    with pytest.raises(NotCapturableError, match="has no CUDA graphs"):
        load_driver("libnowhere.so.1")
