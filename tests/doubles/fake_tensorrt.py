"""A test double of TensorRT's runtime; a plan is a JSON list of its profile's three batches.

With the name `CudaGraphStrategy` it is TensorRT for RTX, without it TensorRT.
"""

import json
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace


class FakeContext:
    def __init__(self, how: object, most: int) -> None:
        self.how = how
        self.most = most
        self.memory: tuple[int, int] | None = None
        self.shapes: list[tuple[int, ...]] = []
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = (address, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes.append(shape)
        return shape[0] <= self.most

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        return True


class FakeEngine:
    device_memory_size_v2 = 4096
    num_optimization_profiles = 1

    def __init__(self, batches: Sequence[int], names: Sequence[str]) -> None:
        self.num_io_tensors = len(names)
        self.contexts: list[FakeContext] = []
        self._batches = batches
        self._names = names

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(n, 512, 512, 3) for n in self._batches]

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_graph_strategy="off")

    def create_execution_context(self, how: object) -> FakeContext:
        self.contexts.append(FakeContext(how, self._batches[-1]))
        return self.contexts[-1]


class FakeLogger:
    ERROR, WARNING = 1, 2


def fake_tensorrt(*, rtx: bool, outputs: Sequence[str]) -> ModuleType:
    """Create the module; its list `engines` has the engines that were deserialised."""
    module = ModuleType("tensorrt_rtx" if rtx else "tensorrt")
    module.engines = []

    class Runtime:
        def __init__(self, logger: FakeLogger) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine:
            module.engines.append(FakeEngine(json.loads(plan), ("tiles", *outputs)))
            return module.engines[-1]

    module.ILogger, module.Runtime = FakeLogger, Runtime
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    if rtx:
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
    return module
