"""What the runtime needs of a CUDA device, and no more, so that a fake one can check its use.

Every call that takes a stream returns before its work is done. Work is ordered by its stream, or by
an event that is recorded on one stream and waited for on another. `Event.synchronize` makes the
host wait.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import EngineError


class DeviceOutOfMemoryError(EngineError):
    """The device has too little memory; fewer tiles at once may fit."""


class NotCapturableError(EngineError):
    """This work cannot become a CUDA graph; it can still be enqueued each time."""


class Releasable(Protocol):
    """A resource of the device that must be freed."""

    def free(self) -> None:
        """Free the resource, which nothing may use afterwards. Harmless if repeated."""
        ...


R = TypeVar("R", bound=Releasable)


def freed_by(stack: ExitStack, resource: R) -> R:
    """Register `resource` to be freed when `stack` is closed.

    An ExitStack frees in the opposite order, and frees the rest where one of them fails. A
    constructor that allocates several resources does so in `with ExitStack() as stack`, so that an
    error half-way frees them, and ends with `stack.pop_all()`, which keeps them.

    Returns:
        `resource`.
    """
    stack.callback(resource.free)
    return resource


class DeviceBuffer(Releasable, Protocol):
    """Memory on the device."""

    @property
    def nbytes(self) -> int: ...


class HostBuffer(Releasable, Protocol):
    """Page-locked host memory, which the device reads and writes directly."""

    def write(self, at: int, data: NDArray[np.uint8]) -> None:
        """Store `data`, contiguous uint8 (n,), from byte `at` on."""
        ...

    def read(self, at: int, nbytes: int) -> NDArray[np.uint8]:
        """Copy `nbytes` bytes from byte `at` on into a new uint8 (nbytes,)."""
        ...


class Event(Releasable, Protocol):
    """A point in a stream's order."""

    def synchronize(self) -> None:
        """Wait for all work before its last recording; return at once if it was never recorded.

        Raises:
            EngineError: some of that work failed.
            DeviceLostError: the device is lost.
        """
        ...


class Stream(Releasable, Protocol):
    """A queue of work that runs in the order it was given."""

    def record(self, event: Event) -> None:
        """Mark this point of the stream by `event`."""
        ...

    def wait(self, event: Event) -> None:
        """Make all later work wait for the event's last recording, if there is one."""
        ...


class Graph(Releasable, Protocol):
    """Work that was captured once: the same kernels on the same memory at each launch."""

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it on `stream` in one call.

        Raises:
            DeviceOutOfMemoryError: it needs more memory than is left.
            EngineError: it cannot be launched.
        """
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a device buffer that begins at byte `at`."""

    buffer: DeviceBuffer
    at: int = 0


class Device(Protocol):
    """One CUDA device. All its resources must be freed before it is closed."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device current in the calling thread; every other call happens inside.

        Raises:
            DeviceLostError: the device is lost. Every call inside raises it too.
        """
        ...

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Allocate device memory. Raises DeviceOutOfMemoryError."""
        ...

    def page_lock(self, nbytes: int) -> HostBuffer:
        """Allocate page-locked host memory. Raises DeviceOutOfMemoryError."""
        ...

    def stream(self) -> Stream:
        """Create a stream."""
        ...

    def event(self) -> Event:
        """Create an event."""
        ...

    def copy_in(self, to: Span, source: HostBuffer, nbytes: int, stream: Stream) -> None:
        """Copy the first `nbytes` of a host buffer to the device."""
        ...

    def copy_out(self, to: HostBuffer, at: int, source: Span, nbytes: int, stream: Stream) -> None:
        """Copy from the device to a host buffer, from its byte `at` on."""
        ...

    def copy(self, to: Span, source: Span, nbytes: int, stream: Stream) -> None:
        """Copy from device memory to device memory."""
        ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Capture what `work` enqueues on `stream` as a graph, without running it.

        No other thread may use the device meanwhile: a call that waits for the whole device would
        fail and end the capture.

        Raises:
            NotCapturableError: some of the work cannot be captured.
        """
        ...

    def close(self) -> None:
        """Close the device. Raises DeviceLostError where it is lost."""
        ...


class FixedRun(Releasable, Protocol):
    """A network's run on a fixed batch at fixed addresses, from which a graph can be captured.

    It shares no state with other runs, so that none of them changes what the graph relies on. It
    must live as long as the graph.
    """

    def enqueue(self, stream: Stream) -> None:
        """Enqueue the run. Raises as `Network.enqueue` does."""
        ...


class Network(Protocol):
    """A neural network that runs on a device."""

    @property
    def most(self) -> int:
        """Largest number of tiles in one batch."""
        ...

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        """Enqueue a run.

        Args:
            tiles: number of tiles in the batch.
            tensors: where each input and output lies, by name.
            stream: what orders the run.

        Raises:
            DeviceOutOfMemoryError: it needs more memory than is left.
            EngineError: it cannot be run.
        """
        ...

    def fixed(self, tiles: int, tensors: Mapping[str, Span]) -> FixedRun:
        """Prepare the run that `enqueue` would make, with separate state.

        Raises:
            NotCapturableError: the network cannot be captured.
            DeviceOutOfMemoryError: there is no room for it.
        """
        ...

    def close(self) -> None:
        """Free what the network holds on the device; its fixed runs must be freed before."""
        ...
