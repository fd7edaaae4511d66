"""A TensorRT plan as a network that is deserialised once and enqueued on any stream."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from her2d.inference.cuda.device import (
    Device,
    DeviceOutOfMemoryError,
    NotCapturableError,
    Span,
    Stream,
    freed_by,
)
from her2d.inference.cuda.pycuda_device import address, handle
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.plans import Profile
from her2d.inference.platforms import library_of
from her2d.inference.tensorrt_log import log_of
from her2d.method import TILE_PX


class TensorRtNetwork:
    """A plan's engine and execution contexts. The device must be current at every call.

    There is one execution context for `enqueue` and, as NVIDIA advises, one for each CUDA graph.
    They share one buffer for activations, so the caller runs one at a time. TensorRT for RTX has a
    single context, which captures graphs by itself.

    Args:
        device: where the plan is loaded.
        backend: `tensorrt` or `tensorrt_rtx`.
        plan: file of the plan, for errors.
        content: the serialised plan, as it was verified.
        outputs: names of the outputs that the plan must have.
        profile: the batches that the plan's sidecar states.

    Raises:
        DeviceOutOfMemoryError: there is no room for it.
        EngineError: the library refuses the plan, its inputs or outputs are not those expected, or
            it was built for other batches.
    """

    def __init__(
        self,
        device: Device,
        backend: BackendName,
        plan: Path,
        content: bytes,
        outputs: tuple[str, ...],
        profile: Profile,
    ) -> None:
        self._trt = trt = library_of(backend)
        self._name = f"{backend} plan {plan.name}"
        self._log = log_of(trt)
        self._runtime: Any = trt.Runtime(self._log)
        self._engine: Any = None
        self._context: Any = None
        self._resources = ExitStack()
        try:
            self._load(device, content, outputs, profile)
        except BaseException:
            # TensorRT's objects must end now, while the device is open. The traceback keeps the
            # local variables of every frame alive, so no method below holds the engine or a
            # context in one.
            self.close()
            raise

    def _load(
        self, device: Device, content: bytes, outputs: tuple[str, ...], profile: Profile
    ) -> None:
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self._failure("cannot load the")
        names = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        if names != {"tiles", *outputs}:
            raise EngineError(
                f"The {self._name} must have the input tiles and the outputs {', '.join(outputs)}."
            )
        self._refuse_other_profile(profile)
        self._context = self._first_context(device)

    @property
    def most(self) -> int:
        return int(self._engine.get_tensor_profile_shape("tiles", 0)[2][0])

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        self._bind(self._context, tiles, tensors)
        self._execute(self._context, stream)

    def fixed(self, tiles: int, tensors: Mapping[str, Span]) -> "FixedTensorRtRun":
        if self._captures_itself:
            raise NotCapturableError("TensorRT for RTX captures its graphs by itself.")
        context = self._managed_context()
        self._bind(context, tiles, tensors)
        return FixedTensorRtRun(context, self._execute)

    def close(self) -> None:
        self._context = self._engine = self._runtime = None
        self._resources.close()

    @property
    def _captures_itself(self) -> bool:
        return hasattr(self._trt, "CudaGraphStrategy")

    def _refuse_other_profile(self, stated: Profile) -> None:
        expected = (stated.smallest, stated.best, stated.most)
        shapes = self._engine.get_tensor_profile_shape("tiles", 0)
        found = tuple(int(shape[0]) for shape in shapes)
        if self._engine.num_optimization_profiles != 1 or found != expected:
            raise EngineError(
                f"The {self._name} was built for batches of {found} (smallest, best, most), and its"
                f" sidecar states {expected}. Compile it again."
            )

    def _first_context(self, device: Device) -> Any:
        if self._captures_itself:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return self._checked(self._engine.create_execution_context(config))
        nbytes = max(1, self._engine.device_memory_size_v2)
        self._scratch = freed_by(self._resources, device.allocate(nbytes))
        return self._managed_context()

    def _managed_context(self) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._checked(self._engine.create_execution_context(strategy))
        context.set_device_memory(address(Span(self._scratch)), self._scratch.nbytes)
        return context

    def _checked(self, context: Any) -> Any:
        if context is None:
            raise self._failure("cannot create an execution context for the")
        return context

    def _bind(self, context: Any, tiles: int, tensors: Mapping[str, Span]) -> None:
        self._log.last_error = None
        taken = [context.set_input_shape("tiles", (tiles, TILE_PX, TILE_PX, 3))]
        taken += [context.set_tensor_address(name, address(span)) for name, span in tensors.items()]
        if not all(taken):
            raise self._failure(f"cannot bind {tiles} tiles to the")

    def _execute(self, context: Any, stream: Stream) -> None:
        self._log.last_error = None
        if not context.execute_async_v3(handle(stream).handle):
            raise self._failure("cannot run the")

    def _failure(self, what: str) -> EngineError:
        """Build the error for a call that failed; only the message says `out of memory`."""
        message = self._log.last_error or "it gives no reason"
        words = message.lower().replace(" ", "")
        kind = DeviceOutOfMemoryError if "outofmemory" in words else EngineError
        return kind(f"TensorRT {what} {self._name}: {message}")


class FixedTensorRtRun:
    """An execution context whose shape and addresses were set once; `execute` enqueues it."""

    def __init__(self, context: Any, execute: Callable[[Any, Stream], None]) -> None:
        self._context = context
        self._execute = execute

    def enqueue(self, stream: Stream) -> None:
        self._execute(self._context, stream)

    def free(self) -> None:
        self._context = None
