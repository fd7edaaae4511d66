"""A fake CUDA device in host memory that checks in which order work may happen.

Work is done at once, but every access is checked as if it happened as late, or as early, as the
streams and events allow: each stream has a vector clock, and a recorded event has a copy of it. Two
accesses to the same bytes, at least one of them a write, must be ordered; otherwise that is a
hazard. Using memory that was freed is one too, and freeing memory that may still be in use.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from her2d.inference.cuda.device import DeviceOutOfMemoryError, NotCapturableError, Span
from her2d.inference.engine import DeviceLostError, EngineError

HOST = 0
Clock = dict[int, int]


def merge(into: Clock, other: Clock) -> None:
    for stream, count in other.items():
        into[stream] = max(into.get(stream, 0), count)


@dataclass(frozen=True)
class Access:
    what: str
    stream: int
    count: int
    start: int
    stop: int
    writes: bool


@dataclass
class Memory:
    """Bytes with the history of all accesses to them."""

    device: "FakeDevice"
    name: str
    data: np.ndarray
    history: list[Access] = field(default_factory=list)
    freed: bool = False

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def touch(self, access: Access, seen: Clock) -> None:
        if self.freed:
            self.device.hazards.append(f"{access.what} uses {self.name}, which was freed")
        for earlier in self.history:
            apart = earlier.stop <= access.start or access.stop <= earlier.start
            ordered = seen.get(earlier.stream, 0) >= earlier.count
            if (earlier.writes or access.writes) and not apart and not ordered:
                self.device.hazards.append(
                    f"{access.what} is not ordered after {earlier.what} on {self.name}"
                )
        self.history.append(access)

    def write(self, at: int, data: np.ndarray) -> None:
        self.device.host_access(self, "host write", at, len(data), writes=True)
        self.data[at : at + len(data)] = data

    def read(self, at: int, nbytes: int) -> np.ndarray:
        self.device.host_access(self, "host read", at, nbytes, writes=False)
        return self.data[at : at + nbytes].copy()

    def free(self) -> None:
        if not self.freed:
            self.freed = True
            self.device.given_back(self)
            for access in self.history:
                if self.device.host.get(access.stream, 0) < access.count:
                    self.device.hazards.append(f"{self.name} is freed under {access.what}")


class FakeEvent:
    def __init__(self, device: "FakeDevice") -> None:
        self.device = device
        self.clock: Clock = {}

    def synchronize(self) -> None:
        self.device.forbid_during_capture("the host waits for an event")
        with self.device.lock:
            merge(self.device.host, self.clock)

    def free(self) -> None:
        self.device.given_back(self)


class FakeStream:
    def __init__(self, device: "FakeDevice", number: int) -> None:
        self.device = device
        self.number = number
        self.clock: Clock = {}

    def record(self, event: FakeEvent) -> None:
        self.device.forbid_during_capture("an event is recorded")
        with self.device.lock:
            event.clock = dict(self.clock)

    def wait(self, event: FakeEvent) -> None:
        self.device.forbid_during_capture("a stream waits for an event")
        with self.device.lock:
            merge(self.clock, event.clock)

    def free(self) -> None:
        self.device.given_back(self)


@dataclass(frozen=True)
class Done:
    """One piece of work: where it ran and what had to have ended before it."""

    what: str
    stream: int
    count: int
    seen: Clock


@dataclass(frozen=True)
class Enqueued:
    """Work with the bytes it reads and writes: (memory, first byte, how many)."""

    what: str
    reads: list
    writes: list
    do: Callable[[], None]


@dataclass
class Recording:
    """A capture in progress: work that its thread enqueues on its stream is kept, not done."""

    stream: FakeStream
    thread: int
    work: list[Enqueued] = field(default_factory=list)


class FakeGraph:
    """Captured work: the same work on the same memory at each launch, in its stream's order."""

    def __init__(self, device: "FakeDevice", work: list[Enqueued]) -> None:
        self.device = device
        self.work = work
        self.freed = False

    def launch(self, stream: FakeStream) -> None:
        if self.freed:
            self.device.hazards.append("a graph was launched after it was freed")
        for item in self.work:
            self.device.enqueue(item.what, stream, item.reads, item.writes, item.do)
        self.device.launches += 1

    def free(self) -> None:
        self.freed = True
        self.device.given_back(self)


class FakeDevice:
    """A device whose state a test can read.

    Args:
        room: bytes of device memory.
        fails_at: which resource, counted from 0, cannot be created; None is none of them.

    Attributes:
        hazards: one sentence for each access that was not ordered; empty if all were.
        handed_out: every resource it has created, in that order.
        freed: identity of every resource that was freed, in that order.
        live: identity of every resource that was created and not freed.
        work: everything that was enqueued.
        uploaded_bytes: bytes that were copied from the host.
        launches: number of graph launches.
        lost: whether the device is lost; every use of it then fails.
    """

    def __init__(self, room: int = 1 << 30, fails_at: int | None = None) -> None:
        self.hazards: list[str] = []
        self.handed_out: list[object] = []
        self.freed: list[int] = []
        self.live: set[int] = set()
        self.work: list[Done] = []
        self.host: Clock = {}
        self.uploaded_bytes = 0
        self.launches = 0
        self.closed = False
        self.lost = False
        self._recording: Recording | None = None
        self.lock = threading.RLock()
        self._room = room
        self._fails_at = fails_at

    def current(self) -> nullcontext[None]:
        if self.lost:
            raise DeviceLostError("The GPU is lost to this process.")
        return nullcontext()

    def allocate(self, nbytes: int) -> Memory:
        self._room -= nbytes
        if self._room < 0:
            raise DeviceOutOfMemoryError("The GPU is out of memory.")
        return self.created(Memory(self, "device memory", self._garbage(nbytes)))

    def page_lock(self, nbytes: int) -> Memory:
        return self.created(Memory(self, "page-locked memory", self._garbage(nbytes)))

    def stream(self) -> FakeStream:
        return self.created(FakeStream(self, len(self.handed_out) + 1))

    def event(self) -> FakeEvent:
        return self.created(FakeEvent(self))

    def copy_in(self, to: Span, source: Memory, nbytes: int, stream: FakeStream) -> None:
        def do() -> None:
            to.buffer.data[to.at : to.at + nbytes] = source.data[:nbytes]
            self.uploaded_bytes += nbytes

        self.enqueue("copy in", stream, [(source, 0, nbytes)], [(to.buffer, to.at, nbytes)], do)

    def copy_out(self, to: Memory, at: int, source: Span, nbytes: int, stream: FakeStream) -> None:
        reads = [(source.buffer, source.at, nbytes)]

        def do() -> None:
            to.data[at : at + nbytes] = source.buffer.data[source.at : source.at + nbytes]

        self.enqueue("copy out", stream, reads, [(to, at, nbytes)], do)

    def copy(self, to: Span, source: Span, nbytes: int, stream: FakeStream) -> None:
        reads = [(source.buffer, source.at, nbytes)]

        def do() -> None:
            to.buffer.data[to.at : to.at + nbytes] = source.buffer.data[source.at :][:nbytes]

        self.enqueue("copy", stream, reads, [(to.buffer, to.at, nbytes)], do)

    def capture(self, stream: FakeStream, work: Callable[[], None]) -> FakeGraph:
        recording = self._recording = Recording(stream, threading.get_ident())
        try:
            work()
        finally:
            self._recording = None
        return self.created(FakeGraph(self, recording.work))

    def forget(self) -> None:
        """Forget the work so far, such as the comparison of graphs when an engine is opened."""
        self.work.clear()
        self.uploaded_bytes = self.launches = 0

    def close(self) -> None:
        self.closed = True

    def enqueue(
        self, what: str, stream: FakeStream, reads: list, writes: list, do: Callable[[], None]
    ) -> None:
        with self.lock:
            recording = self._recording
            if recording is not None and recording.stream is stream:
                recording.work.append(Enqueued(what, reads, writes, do))
                return
            if recording is not None:
                self.hazards.append(f"{what} is enqueued on another stream during a capture")
            self._enqueue(what, stream, reads, writes)
            do()

    def forbid_during_capture(self, what: str) -> None:
        if self._recording is not None:
            self.hazards.append(f"{what} during a capture")

    def _enqueue(self, what: str, stream: FakeStream, reads: list, writes: list) -> None:
        merge(stream.clock, self.host)
        seen = dict(stream.clock)
        count = seen.get(stream.number, 0) + 1
        stream.clock[stream.number] = count
        for spans, writing in ((reads, False), (writes, True)):
            for memory, at, nbytes in spans:
                access = Access(what, stream.number, count, at, at + nbytes, writing)
                memory.touch(access, seen)
        self.work.append(Done(what, stream.number, count, seen))

    def host_access(self, memory: Memory, what: str, at: int, nbytes: int, *, writes: bool) -> None:
        with self.lock:
            seen = dict(self.host)
            self.host[HOST] = seen.get(HOST, 0) + 1
            memory.touch(Access(what, HOST, self.host[HOST], at, at + nbytes, writes), seen)

    def may_overlap(self, one: Done, other: Done) -> bool:
        """Return whether neither is ordered after the other."""
        return (
            one.seen.get(other.stream, 0) < other.count
            and other.seen.get(one.stream, 0) < one.count
        )

    def created(self, resource):
        if len(self.handed_out) == self._fails_at:
            raise EngineError("CUDA failed: an error that passes")
        self.handed_out.append(resource)
        self.live.add(id(resource))
        return resource

    def given_back(self, resource) -> None:
        if id(resource) in self.live:
            self.live.discard(id(resource))
            self.freed.append(id(resource))

    def _garbage(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xA5, np.uint8)


class FakeNetwork:
    """A network given as a function of uint8 (N, 512, 512, 3) that returns each output by name."""

    def __init__(
        self,
        device: FakeDevice,
        name: str,
        function: Callable[[np.ndarray], dict[str, np.ndarray]],
        *,
        most: int = 64,
        room_for: int = 64,
        capturable: bool = True,
    ) -> None:
        self.most = most
        self.room_for = room_for
        self.capturable = capturable
        self.closed = False
        self.batches: list[int] = []
        self.device = device
        self._name = name
        self._function = function

    def enqueue(self, tiles: int, tensors: dict[str, Span], stream: FakeStream) -> None:
        assert tiles <= self.most
        if tiles > self.room_for:
            raise DeviceOutOfMemoryError("The GPU is out of memory.")
        source = tensors["tiles"]
        nbytes = tiles * 512 * 512 * 3

        def do() -> None:
            pixels = source.buffer.data[source.at : source.at + nbytes]
            for name, value in self._function(pixels.reshape(tiles, 512, 512, 3)).items():
                span = tensors[name]
                raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                span.buffer.data[span.at : span.at + len(raw)] = raw
            self.batches.append(tiles)

        empty = self._function(np.empty((1, 512, 512, 3), np.uint8))
        writes = [(tensors[n].buffer, tensors[n].at, tiles * v.nbytes) for n, v in empty.items()]
        self.device.enqueue(self._name, stream, [(source.buffer, source.at, nbytes)], writes, do)

    def fixed(self, tiles: int, tensors: dict[str, Span]) -> "FakeFixedRun":
        if not self.capturable:
            raise NotCapturableError("It waits for the host.")
        return self.device.created(FakeFixedRun(self, tiles, tensors))

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class FakeFixedRun:
    """A network's run on a fixed batch at fixed addresses."""

    network: FakeNetwork
    tiles: int
    tensors: dict[str, Span]

    def enqueue(self, stream: FakeStream) -> None:
        self.network.enqueue(self.tiles, self.tensors, stream)

    def free(self) -> None:
        self.network.device.given_back(self)


def tiles(n: int, seed: int = 0) -> np.ndarray:
    """Return n different tiles of noise, uint8 (n, 512, 512, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 512, 512, 3), dtype=np.uint8)


def segmenter(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the outputs of the colour bundle's segmenter."""
    mask = (pixels[..., 0] < 100).astype(np.uint8)
    return {"tumor_pixels": mask.sum((1, 2), dtype=np.int32), "mask": mask}


def classifiers(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the outputs of the colour bundle's classifiers."""
    green = pixels[..., 1].mean(axis=(1, 2), dtype=np.float32) / np.float32(255)
    return {"p_strong": np.repeat(green[:, None], 5, axis=1)}
