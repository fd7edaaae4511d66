"""A TensorRT plan as a network: deserialised once, enqueued on any stream."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from her2d.inference.cuda.device import DeviceOutOfMemoryError, Span, Stream
from her2d.inference.cuda.pycuda_device import address, handle
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.platforms import library_of

log = structlog.get_logger(__name__)


class TensorRtNetwork:
    """A plan's engine and execution context. The device is current while it is made and used.

    Raises:
        EngineError: the library refuses the plan, or it has not the inputs and outputs of the
            contract; DeviceOutOfMemoryError where there is no room for it.
    """

    def __init__(self, backend: BackendName, plan: Path, outputs: tuple[str, ...]) -> None:
        trt = library_of(backend)
        self._name = f"{backend} plan {plan.name}"
        self._said = _logger(trt)
        self._runtime: Any = trt.Runtime(self._said)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise self._failure("cannot load the")
        engine = self._engine
        found = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        if found != {"tiles", *outputs}:
            raise EngineError(f"The {self._name} must take tiles and give {', '.join(outputs)}.")
        self._context: Any = _context(trt, engine)
        if self._context is None:
            raise self._failure("has no room for the")

    @property
    def most(self) -> int:
        return int(self._engine.get_tensor_profile_shape("tiles", 0)[2][0])

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        context = self._context
        context.set_input_shape("tiles", (tiles, 512, 512, 3))
        for name, span in tensors.items():
            context.set_tensor_address(name, address(span))
        self._said.last_error = None
        if not context.execute_async_v3(handle(stream).handle):
            raise self._failure("cannot run the")

    def close(self) -> None:
        self._context = self._engine = self._runtime = None

    def _failure(self, what: str) -> EngineError:
        """TensorRT says `out of memory` in words only."""
        said = self._said.last_error or "it says no more"
        words = said.lower().replace(" ", "")
        kind = DeviceOutOfMemoryError if "outofmemory" in words else EngineError
        return kind(f"TensorRT {what} {self._name}: {said}")


def _context(trt: Any, engine: Any) -> Any:
    """An execution context. TensorRT for RTX captures CUDA graphs by itself when told to."""
    strategies = getattr(trt, "CudaGraphStrategy", None)
    if strategies is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error: str | None = None

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last_error = message
            elif severity == trt.ILogger.WARNING:
                log.debug("tensorrt_warning", said=message)

    return Logger()
