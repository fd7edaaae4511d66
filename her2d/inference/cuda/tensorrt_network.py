"""A TensorRT plan as a network: deserialised once, enqueued on any stream."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from her2d.inference.cuda.device import (
    Device,
    DeviceOutOfMemoryError,
    NotCapturableError,
    Span,
    Stream,
)
from her2d.inference.cuda.pycuda_device import address, handle
from her2d.inference.cuda.scope import Scope
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.plans import Profile
from her2d.inference.platforms import library_of
from her2d.inference.tensorrt_log import log_of


class TensorRtNetwork:
    """A plan's engine and execution contexts. The device is current while it is made and used.

    TensorRT's contexts share one piece of memory for activations: there is one for enqueueing and,
    as NVIDIA advises, one for each CUDA graph, and whoever owns the network runs one at a time.
    TensorRT for RTX has a single one, which captures graphs by itself.

    Args:
        profile: the batches that the plan's sidecar says it was built for.

    Raises:
        EngineError: the library refuses the plan, it has not the inputs and outputs of the
            contract, or was built for other batches; DeviceOutOfMemoryError where there is no room
            for it.
    """

    def __init__(
        self,
        device: Device,
        backend: BackendName,
        plan: Path,
        outputs: tuple[str, ...],
        profile: Profile,
    ) -> None:
        self._trt = trt = library_of(backend)
        self._name = f"{backend} plan {plan.name}"
        self._said = log_of(trt)
        self._runtime: Any = trt.Runtime(self._said)
        self._engine: Any = None
        self._context: Any = None
        self._scope = Scope()
        try:
            self._load(device, plan, outputs, profile)
        except BaseException:
            # Now, and not with the traceback, when the device is closed: so no frame below may
            # have a name of its own for the engine or a context.
            self.close()
            raise

    def _load(self, device: Device, plan: Path, outputs: tuple[str, ...], profile: Profile) -> None:
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise self._failure("cannot load the")
        names = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        if names != {"tiles", *outputs}:
            raise EngineError(f"The {self._name} must take tiles and give {', '.join(outputs)}.")
        self._refuse_other_profile(profile)
        self._context = self._first_context(device)

    @property
    def most(self) -> int:
        return int(self._engine.get_tensor_profile_shape("tiles", 0)[2][0])

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        self._place(self._context, tiles, tensors)
        self._execute(self._context, stream)

    def fixed(self, tiles: int, tensors: Mapping[str, Span]) -> "FixedTensorRtRun":
        if self._captures_itself:
            raise NotCapturableError("TensorRT for RTX captures its graphs by itself.")
        context = self._managed_context()
        self._place(context, tiles, tensors)
        return FixedTensorRtRun(context, self._execute)

    def close(self) -> None:
        self._context = self._engine = self._runtime = None
        self._scope.free()

    @property
    def _captures_itself(self) -> bool:
        return hasattr(self._trt, "CudaGraphStrategy")

    def _refuse_other_profile(self, told: Profile) -> None:
        wanted = (told.smallest, told.best, told.most)
        shapes = self._engine.get_tensor_profile_shape("tiles", 0)
        found = tuple(int(shape[0]) for shape in shapes)
        if self._engine.num_optimization_profiles != 1 or found != wanted:
            raise EngineError(
                f"The {self._name} was built for batches of {found} (smallest, best, most), and its"
                f" sidecar says {wanted}: compile it anew."
            )

    def _first_context(self, device: Device) -> Any:
        if self._captures_itself:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return self._made(self._engine.create_execution_context(config))
        nbytes = max(1, self._engine.device_memory_size_v2)
        self._scratch = self._scope.own(device.allocate(nbytes))
        return self._managed_context()

    def _managed_context(self) -> Any:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._made(self._engine.create_execution_context(strategy))
        context.set_device_memory(address(Span(self._scratch)), self._scratch.nbytes)
        return context

    def _made(self, context: Any) -> Any:
        if context is None:
            raise self._failure("has no room for the")
        return context

    def _place(self, context: Any, tiles: int, tensors: Mapping[str, Span]) -> None:
        self._said.last_error = None
        taken = [context.set_input_shape("tiles", (tiles, 512, 512, 3))]
        taken += [context.set_tensor_address(name, address(span)) for name, span in tensors.items()]
        if not all(taken):
            raise self._failure(f"has no place for {tiles} tiles in the")

    def _execute(self, context: Any, stream: Stream) -> None:
        self._said.last_error = None
        if not context.execute_async_v3(handle(stream).handle):
            raise self._failure("cannot run the")

    def _failure(self, what: str) -> EngineError:
        """TensorRT says `out of memory` in words only."""
        said = self._said.last_error or "it says no more"
        words = said.lower().replace(" ", "")
        kind = DeviceOutOfMemoryError if "outofmemory" in words else EngineError
        return kind(f"TensorRT {what} {self._name}: {said}")


class FixedTensorRtRun:
    """A context that is given one shape and its places once; `execute` enqueues it."""

    def __init__(self, context: Any, execute: Callable[[Any, Stream], None]) -> None:
        self._context = context
        self._execute = execute

    def enqueue(self, stream: Stream) -> None:
        self._execute(self._context, stream)

    def free(self) -> None:
        self._context = None
