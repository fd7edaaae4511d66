"""What the runtime needs of a CUDA device, and no more, so that a fake one can check its use.

Everything that takes a stream returns before it has happened. What orders it is the stream, or an
event recorded on one stream and waited for on another; `Event.synchronize` makes the host wait.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import EngineError


class DeviceOutOfMemoryError(EngineError):
    """The device has no room for this; with fewer tiles it may."""


class NotCapturableError(EngineError):
    """This work cannot become a CUDA graph; it can be enqueued each time all the same."""


class Releasable(Protocol):
    """Something of the device's that must be given back."""

    def free(self) -> None:
        """Give it back. Harmless if repeated; nothing may use it any more."""
        ...


class DeviceBuffer(Releasable, Protocol):
    """Memory on the device."""

    @property
    def nbytes(self) -> int: ...


class HostBuffer(Releasable, Protocol):
    """Page-locked memory here, which the device copies to and from by itself."""

    def write(self, at: int, data: NDArray[np.uint8]) -> None:
        """Store `data`, contiguous uint8, from byte `at` on."""
        ...

    def read(self, at: int, nbytes: int) -> NDArray[np.uint8]:
        """A copy of `nbytes` bytes from byte `at` on, uint8 (nbytes,)."""
        ...


class Event(Releasable, Protocol):
    """A point in a stream's order."""

    def synchronize(self) -> None:
        """Return when all that came before its last recording is done; at once if never recorded.

        Raises:
            EngineError: something of it failed; DeviceLostError: the device is gone.
        """
        ...


class Stream(Releasable, Protocol):
    """Work that happens in the order it was given."""

    def record(self, event: Event) -> None:
        """Mark this point of the stream by `event`."""
        ...

    def wait(self, event: Event) -> None:
        """Let what is given from now on wait for the event's last recording, if there is any."""
        ...


class Graph(Releasable, Protocol):
    """Work that was recorded once: the same kernels on the same memory at each launch."""

    def launch(self, stream: Stream) -> None:
        """Give all of it to `stream`, in one call.

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
    """One CUDA device. What it hands out must be freed before it is closed."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device the calling thread's own; every other call happens inside.

        Raises:
            DeviceLostError: it is gone; so does any call inside.
        """
        ...

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """Raises DeviceOutOfMemoryError."""
        ...

    def page_lock(self, nbytes: int) -> HostBuffer:
        """Raises DeviceOutOfMemoryError."""
        ...

    def stream(self) -> Stream: ...

    def event(self) -> Event: ...

    def copy_in(self, to: Span, source: HostBuffer, nbytes: int, stream: Stream) -> None:
        """Host to device, from the source's beginning."""
        ...

    def copy_out(self, to: HostBuffer, at: int, source: Span, nbytes: int, stream: Stream) -> None:
        """Device to host, from byte `at` of the host's buffer on."""
        ...

    def copy(self, to: Span, source: Span, nbytes: int, stream: Stream) -> None:
        """Device to device."""
        ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """What `work` gives to `stream`, as a graph; none of it happens yet.

        Nobody else may use the device meanwhile: a call that waits for all of it would fail, and
        end the capture.

        Raises:
            NotCapturableError: some of it cannot be recorded.
        """
        ...

    def close(self) -> None:
        """Let go of the device. Raises DeviceLostError where it is gone."""
        ...


class FixedRun(Releasable, Protocol):
    """A network's run on so many tiles in the same places, for a graph to be captured from.

    Its state is its own, so that other runs do not touch what the graph relies on; it must live as
    long as the graph.
    """

    def enqueue(self, stream: Stream) -> None:
        """Run it. Raises as `Network.enqueue` does."""
        ...


class Network(Protocol):
    """A graph that runs on a device."""

    @property
    def most(self) -> int:
        """Tiles that it takes at once."""
        ...

    def enqueue(self, tiles: int, tensors: Mapping[str, Span], stream: Stream) -> None:
        """Run on `tiles` tiles; inputs and outputs are where `tensors` says.

        Raises:
            DeviceOutOfMemoryError: it needs more memory than is left.
            EngineError: it cannot be run.
        """
        ...

    def fixed(self, tiles: int, tensors: Mapping[str, Span]) -> FixedRun:
        """The run that `enqueue` makes of these, with a state of its own.

        Raises:
            NotCapturableError: the network is not to be captured.
            DeviceOutOfMemoryError: there is no room for it.
        """
        ...

    def close(self) -> None:
        """Release what it holds on the device; its fixed runs are released before."""
        ...
