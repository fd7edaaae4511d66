"""Loading and running a plan, with a test double for TensorRT."""

import sys
from types import SimpleNamespace

import pytest
from fake_device import FakeDevice
from fake_tensorrt import fake_tensorrt

from her2d.inference.cuda.device import NotCapturableError, Span
from her2d.inference.cuda.pycuda_device import PyCudaBuffer, PyCudaStream
from her2d.inference.cuda.tensorrt_network import TensorRtNetwork
from her2d.inference.engine import EngineError
from her2d.inference.plans import Profile

PROFILE = Profile(smallest=1, best=4, most=8)
STREAM = PyCudaStream(SimpleNamespace(handle=9), lambda free: free())


class Allocation:
    """What PyCUDA's `mem_alloc` returns."""

    freed = False

    def __int__(self) -> int:
        return 0x1000

    def free(self) -> None:
        self.freed = True


class AddressedDevice(FakeDevice):
    """A fake device whose memory has addresses, as TensorRT needs them."""

    def __init__(self) -> None:
        super().__init__()
        self.allocations: list[Allocation] = []

    def allocate(self, nbytes: int) -> PyCudaBuffer:
        self.allocations.append(Allocation())
        return PyCudaBuffer(self.allocations[-1], nbytes, lambda free: free())


@pytest.fixture
def device():
    return AddressedDevice()


@pytest.fixture
def load(device, monkeypatch, tmp_path):
    def load(profile: Profile, *, rtx: bool = False):
        trt = fake_tensorrt(rtx=rtx, outputs=("p_strong",))
        monkeypatch.setitem(sys.modules, trt.__name__, trt)
        plan = tmp_path / "a.plan"
        plan.write_text("[1, 4, 8]")
        network = TensorRtNetwork(
            device, trt.__name__, plan, plan.read_bytes(), ("p_strong",), profile
        )
        return network, trt.engines[0]

    return load


def tensors() -> dict[str, Span]:
    buffer = PyCudaBuffer(0x9000, 64, lambda free: free())
    return {"tiles": Span(buffer), "p_strong": Span(buffer, 32)}


def test_a_plan_built_for_the_batches_of_its_sidecar_is_loaded(load):
    network, _ = load(PROFILE)
    assert network.most == 8


@pytest.mark.parametrize("rtx", [False, True])
@pytest.mark.parametrize(
    "stated",
    [Profile(best=4, most=4), Profile(best=8, most=8), Profile(smallest=2, best=4, most=8)],
)
def test_a_plan_built_for_other_batches_is_refused(load, device, stated, rtx):
    with pytest.raises(EngineError, match=r"a\.plan was built for batches of \(1, 4, 8\)"):
        load(stated, rtx=rtx)
    assert device.allocations == []


def test_more_tiles_than_the_plan_takes_are_refused_and_not_run(load):
    network, engine = load(PROFILE)
    with pytest.raises(EngineError, match=r"cannot bind 9 tiles to the .*a\.plan"):
        network.enqueue(9, tensors(), STREAM)
    assert engine.contexts[0].streams == []


def test_each_fixed_run_has_its_own_context_and_shares_the_memory(load, device):
    network, engine = load(PROFILE)
    run = network.fixed(8, tensors())
    network.enqueue(3, tensors(), STREAM)
    run.enqueue(STREAM)
    plain, fixed = engine.contexts
    assert [context.how for context in engine.contexts] == ["user managed"] * 2
    assert plain.memory == fixed.memory == (0x1000, 4096)
    assert (plain.shapes, fixed.shapes) == ([(3, 512, 512, 3)], [(8, 512, 512, 3)])
    assert fixed.addresses == {"tiles": 0x9000, "p_strong": 0x9020}
    assert fixed.streams == [9]
    run.free()
    network.close()
    assert [allocation.freed for allocation in device.allocations] == [True]


def test_tensorrt_for_rtx_captures_by_itself_and_is_not_captured_again(load):
    network, engine = load(PROFILE, rtx=True)
    assert engine.contexts[0].how.cuda_graph_strategy == "whole graph"
    with pytest.raises(NotCapturableError, match="captures its graphs by itself"):
        network.fixed(8, tensors())
