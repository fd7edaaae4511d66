"""TensorRT for the simulated GPU: a plan is the ONNX graph, and ONNX Runtime computes it.

Work is enqueued on the streams of `libcuda.c` as host functions, which run in the stream's order
and read and write tensors at the addresses given, as TensorRT's kernels would. Only the parts of
TensorRT 10.8 and later that her2d uses are there.
"""

import ctypes
import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime

__version__ = "10.8.0+simulated"

_TILE = (512, 512, 3)
_INPUT = "tiles"
_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_driver = ctypes.CDLL("libcuda.so.1")
_driver.cuLaunchHostFunc.argtypes = (ctypes.c_void_p, _HOST_FUNCTION, ctypes.c_void_p)
_driver.cuCtxGetCurrent.argtypes = (ctypes.POINTER(ctypes.c_void_p),)

NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
BuilderFlag = SimpleNamespace(TF32="tf32")
ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class IProgressMonitor:
    pass


# ---- building ----


class OptimizationProfile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert name == _INPUT
        self.shapes = shapes

    def get_shape(self, name: str) -> tuple[tuple[int, ...], ...]:
        return self.shapes


class Network:
    graph = b""

    def read(self, graph: bytes) -> None:
        self.graph = graph
        model = onnx.load_from_string(graph)
        self._inputs, self._outputs = model.graph.input, model.graph.output
        self.num_inputs, self.num_outputs = len(self._inputs), len(self._outputs)

    def get_input(self, index: int) -> SimpleNamespace:
        return _tensor(self._inputs[index])

    def get_output(self, index: int) -> SimpleNamespace:
        return _tensor(self._outputs[index])


def _tensor(value: onnx.ValueInfoProto) -> SimpleNamespace:
    kind = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    dtype = SimpleNamespace(name=onnx.TensorProto.DataType.Name(kind.elem_type))
    return SimpleNamespace(name=value.name, dtype=dtype, shape=shape)


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network

    def parse(self, graph: bytes) -> bool:
        self._network.read(graph)
        return True


class BuilderConfig:
    progress_monitor: object = None

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profile = profile
        return 0

    def clear_flag(self, flag: str) -> None:
        assert flag == BuilderFlag.TF32

    def create_timing_cache(self, known: bytes) -> bytes:
        return known

    def set_timing_cache(self, cache: bytes, *, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: b"timings")


class Builder:
    def __init__(self, logger: ILogger) -> None:
        pass

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes:
        batches = [shape[0] for shape in config.profile.shapes]
        return json.dumps(batches).encode() + b"\n" + network.graph


# ---- running ----


@dataclass
class Launch:
    """What a kernel needs when it runs."""

    engine: "Engine"
    tiles: int
    addresses: dict[str, int]


_launches: dict[int, Launch] = {}
_numbers = itertools.count(1)
_failures: list[BaseException] = []


@_HOST_FUNCTION
def _kernel(number: int) -> None:
    try:
        launch = _launches[number]
        launch.engine.compute(launch.tiles, launch.addresses)
    except BaseException as error:  # noqa: BLE001  nothing catches an exception in a C thread
        _failures.append(error)


class Runtime:
    engine: "type[Engine]"

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        if _no_context(self._logger):
            return None
        return self.engine(plan, self._logger)


orphans: list[str] = []
"""Objects that ended after the context in which they were created."""


class Engine:
    num_optimization_profiles = 1
    device_memory_size_v2 = 1 << 20

    def __init__(self, plan: bytes, logger: ILogger) -> None:
        batches, _, graph = plan.partition(b"\n")
        self.logger = logger
        self._batches = json.loads(batches)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [output.name for output in self._session.get_outputs()]
        self.num_io_tensors = 1 + len(self.outputs)

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending() and _no_context(self.logger):
            orphans.append("engine")

    def get_tensor_name(self, index: int) -> str:
        return [_INPUT, *self.outputs][index]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(n, *_TILE) for n in self._batches]

    def create_execution_context(self, how: object) -> "Context | None":
        if _no_context(self.logger):
            return None
        assert how == ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)

    def compute(self, tiles: int, addresses: dict[str, int]) -> None:
        """Read the input and write the outputs at their addresses."""
        given = np.copy(_at(addresses[_INPUT], tiles * int(np.prod(_TILE))).reshape(tiles, *_TILE))
        for name, value in zip(self.outputs, self._session.run(None, {_INPUT: given}), strict=True):
            raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            _at(addresses[name], len(raw))[:] = raw


Runtime.engine = Engine


def _at(address: int, nbytes: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


@dataclass
class Context:
    engine: Engine
    tiles: int = 0
    addresses: dict[str, int] = field(default_factory=dict)
    memory: tuple[int, int] | None = None

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.memory = (address, nbytes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.tiles = shape[0]
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        logger = self.engine.logger
        refusals: tuple[tuple[Callable[[], bool], str], ...] = (
            (lambda: self.memory is None, "no device memory was set"),
            (lambda: set(self.addresses) != {_INPUT, *self.engine.outputs}, "an address is unset"),
            (lambda: self.tiles > int(os.environ.get("SIMULATED_GPU_TILES", "64")), "OutOfMemory"),
        )
        for refuses, reason in refusals:
            if refuses():
                logger.log(ILogger.ERROR, f"enqueueV3: {reason}")
                return False
        number = next(_numbers)
        _launches[number] = Launch(self.engine, self.tiles, dict(self.addresses))
        status = _driver.cuLaunchHostFunc(stream, _kernel, number)
        if status != 0 or _failures:
            logger.log(ILogger.ERROR, f"enqueueV3: CUDA error {status} {_failures[:1]}")
            return False
        return True


def _no_context(logger: ILogger) -> bool:
    context = ctypes.c_void_p()
    _driver.cuCtxGetCurrent(ctypes.byref(context))
    if context.value is None:
        logger.log(ILogger.ERROR, "no CUDA context is current")
    return context.value is None
