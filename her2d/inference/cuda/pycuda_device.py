"""The CUDA device through PyCUDA, in the primary context, which torch and others share."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cuda.device import (
    DeviceBuffer,
    DeviceOutOfMemoryError,
    Event,
    Graph,
    HostBuffer,
    Releasable,
    Span,
    Stream,
)
from her2d.inference.cuda.driver_graph import DriverGraph, capture, load_driver
from her2d.inference.cuda_driver import leave_context
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.system.extras import installing
from her2d.system.loggers import get_logger

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING; PyCUDA takes the number and has no name for it

log = get_logger(__name__)


class PyCudaDevice:
    """The first CUDA device.

    Raises:
        EngineError: PyCUDA is not installed or finds no device.
    """

    def __init__(self) -> None:
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise EngineError(
                f"pycuda is not installed ({error}); install it with: {installing('tensorrt')}"
            ) from error
        self._cuda = cuda
        try:
            cuda.init()
            self._context = cuda.Device(0).retain_primary_context()
        except cuda.Error as error:
            raise EngineError(f"PyCUDA cannot open the first CUDA device: {error}") from error
        self._loss: str | None = None

    @contextmanager
    def current(self) -> Iterator[None]:
        self._enter()
        try:
            with self.own_errors():
                yield
        finally:
            with self._errors_as_loss():
                self._cuda.Context.pop()

    def allocate(self, nbytes: int) -> "PyCudaBuffer":
        with self.own_errors():
            return PyCudaBuffer(self._cuda.mem_alloc(nbytes), nbytes, self.freeing)

    def page_lock(self, nbytes: int) -> "PyCudaHostBuffer":
        with self.own_errors():
            memory = self._cuda.pagelocked_empty(nbytes, np.uint8)
        return PyCudaHostBuffer(memory, self.freeing)

    def stream(self) -> "PyCudaStream":
        # Another library's work on the legacy stream must not wait for ours, nor ours for its.
        with self.own_errors():
            return PyCudaStream(self._cuda.Stream(_NON_BLOCKING), self.freeing)

    def event(self) -> "PyCudaEvent":
        # Blocking: a spinning host thread would take the core that decodes.
        flags = self._cuda.event_flags
        with self.own_errors():
            made = self._cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)
        return PyCudaEvent(made, self.own_errors, self.freeing)

    def copy_in(self, to: Span, source: HostBuffer, nbytes: int, stream: Stream) -> None:
        memory = _as(PyCudaHostBuffer, source).memory[:nbytes]
        self._cuda.memcpy_htod_async(address(to), memory, handle(stream))

    def copy_out(self, to: HostBuffer, at: int, source: Span, nbytes: int, stream: Stream) -> None:
        memory = _as(PyCudaHostBuffer, to).memory[at : at + nbytes]
        self._cuda.memcpy_dtoh_async(memory, address(source), handle(stream))

    def copy(self, to: Span, source: Span, nbytes: int, stream: Stream) -> None:
        self._cuda.memcpy_dtod_async(address(to), address(source), nbytes, handle(stream))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        recorded = capture(load_driver(), handle(stream).handle, work)
        return PyCudaGraph(recorded, self.own_errors)

    def close(self) -> None:
        # PyCUDA 2026.1 releases a context only in the thread that opened it or where it is current.
        # In either case the driver would keep it as this thread's current context.
        self._enter()
        leave_context()
        with self._errors_as_loss():
            self._context.detach()

    def _enter(self) -> None:
        if self._loss is not None:
            raise DeviceLostError(self._loss)
        with self._errors_as_loss():
            self._context.push()

    @contextmanager
    def _errors_as_loss(self) -> Iterator[None]:
        """Raise DeviceLostError for errors of calls that fail only where the context is lost."""
        try:
            yield
        except self._cuda.Error as error:
            raise self._lost(error) from error

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise PyCUDA's errors as ours, and any error as DeviceLostError on a lost device."""
        cuda = self._cuda
        try:
            yield
        except (DeviceLostError, DeviceOutOfMemoryError):
            raise
        except cuda.MemoryError as error:
            raise DeviceOutOfMemoryError(f"The GPU is out of memory: {error}") from error
        except (cuda.Error, EngineError) as error:
            self._raise_if_lost(error)
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"CUDA failed: {error}") from error

    def _raise_if_lost(self, error: Exception) -> None:
        """Raise DeviceLostError if CUDA repeats the error, which then only a new process ends."""
        try:
            self._cuda.Context.synchronize()
        except self._cuda.Error as again:
            raise self._lost(again) from error

    def freeing(self, free: Callable[[], object]) -> None:
        """Call `free`, except on a lost device, where nothing can be freed and the process ends.

        Work fails after its call has returned, so the first to meet a loss may be this. PyCUDA
        would print a warning for each thing that it then frees: the device is asked before.
        """
        if self._is_lost():
            return
        try:
            free()
        except self._cuda.Error as error:
            log.warning("device_memory_not_freed", reason=str(error))

    def _is_lost(self) -> bool:
        if self._loss is not None:
            return True
        try:
            self._enter()
            try:
                self._cuda.Context.synchronize()
            finally:
                self._cuda.Context.pop()
        except self._cuda.Error as error:
            self._lost(error)
        except DeviceLostError as error:
            log.debug("device_lost_before_freeing", reason=str(error))
        return self._loss is not None

    def _lost(self, error: Exception) -> DeviceLostError:
        """Make PyCUDA regard the context as dead, and return the error to raise.

        PyCUDA's destructors make the context current first, and a context that stays on a thread's
        stack ends the process with that thread. On a lost device either would end in SIGABRT. For
        a dead context PyCUDA does neither.
        """
        if self._loss is None:
            self._loss = f"The GPU is lost to this process: {error}"
            # In a thread that neither opened it nor has it current, detaching calls no driver.
            thread = threading.Thread(target=self._forget)
            thread.start()
            thread.join()
        # This removes dead contexts from this thread's stack.
        self._cuda.Context.get_current()
        return DeviceLostError(self._loss)

    def _forget(self) -> None:
        with suppress(self._cuda.Error):
            self._context.detach()


class PyCudaBuffer:
    """Device memory; `freeing` calls the function that frees it."""

    def __init__(
        self, memory: Any, nbytes: int, freeing: Callable[[Callable[[], object]], None]
    ) -> None:
        self.address = int(memory)
        self._memory = memory
        self._nbytes = nbytes
        self._freeing = freeing

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def free(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            self._freeing(memory.free)


class PyCudaHostBuffer:
    """Page-locked memory, uint8 (nbytes,); `freeing` calls the function that frees it."""

    def __init__(
        self, memory: NDArray[np.uint8], freeing: Callable[[Callable[[], object]], None]
    ) -> None:
        self.memory = memory
        self._base: Any = memory.base
        self._freeing = freeing

    def write(self, at: int, data: NDArray[np.uint8]) -> None:
        self.memory[at : at + len(data)] = data

    def read(self, at: int, nbytes: int) -> NDArray[np.uint8]:
        return self.memory[at : at + nbytes].copy()

    def free(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            self.memory = np.empty(0, np.uint8)
            self._freeing(base.free)


class PyCudaStream:
    """A stream, which PyCUDA destroys with the last reference; `freeing` calls what drops it."""

    def __init__(self, stream: Any, freeing: Callable[[Callable[[], object]], None]) -> None:
        self.stream = stream
        self._freeing = freeing

    def record(self, event: Event) -> None:
        _as(PyCudaEvent, event).record(self.stream)

    def wait(self, event: Event) -> None:
        _as(PyCudaEvent, event).hold_back(self.stream)

    def free(self) -> None:
        self._freeing(self._drop)
        self._drop()

    def _drop(self) -> None:
        self.stream = None


class PyCudaEvent:
    """An event, which PyCUDA destroys with the last reference; `freeing` calls what drops it."""

    def __init__(
        self,
        event: Any,
        own_errors: Callable[[], Any],
        freeing: Callable[[Callable[[], object]], None],
    ) -> None:
        self._event = event
        self._own_errors = own_errors
        self._freeing = freeing
        self._recorded = False

    def record(self, stream: Any) -> None:
        self._event.record(stream)
        self._recorded = True

    def hold_back(self, stream: Any) -> None:
        if self._recorded:
            stream.wait_for_event(self._event)

    def synchronize(self) -> None:
        if self._recorded:
            with self._own_errors():
                self._event.synchronize()

    def free(self) -> None:
        self._freeing(self._drop)
        self._drop()

    def _drop(self) -> None:
        self._event = None
        self._recorded = False


class PyCudaGraph:
    """A captured graph whose launch errors are raised as ours."""

    def __init__(self, graph: DriverGraph, own_errors: Callable[[], Any]) -> None:
        self._graph = graph
        self._own_errors = own_errors

    def launch(self, stream: Stream) -> None:
        with self._own_errors():
            self._graph.launch(handle(stream).handle)

    def free(self) -> None:
        if status := self._graph.free():
            log.warning("cuda_graph_not_freed", reason=f"CUDA error {status}")


def address(span: Span) -> int:
    """Return the device address of a span's first byte."""
    return int(_as(PyCudaBuffer, span.buffer).address) + span.at


def handle(stream: Stream) -> Any:
    """Return PyCUDA's stream object."""
    return _as(PyCudaStream, stream).stream


def _as(kind: Any, thing: Releasable | DeviceBuffer) -> Any:
    if not isinstance(thing, kind):
        raise TypeError(f"{type(thing).__name__} belongs to another device")
    return thing
