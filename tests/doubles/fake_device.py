"""A CUDA device in plain memory that knows what is ordered before what.

Work is done at once, but every access is checked as if it happened as late, or as early, as the
streams and events allow: each stream carries a vector clock, a recorded event a copy of it. Two
accesses to the same bytes of which one writes must be ordered, or it is a hazard. So are uses of
what was freed, and freeing what may still be in use.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from her2d.inference.cuda.device import DeviceOutOfMemoryError, NotCapturableError, Span
from her2d.inference.engine import DeviceLostError

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
    """Bytes with the history of who touched them."""

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
            self.device.live.discard(id(self))
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
        self.device.live.discard(id(self))


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
        self.device.live.discard(id(self))


@dataclass(frozen=True)
class Done:
    """One piece of work: where it ran and what had to be over before it."""

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
    """A capture under way: what is given to its stream by its thread is kept, not done."""

    stream: FakeStream
    thread: int
    work: list[Enqueued] = field(default_factory=list)


class FakeGraph:
    """Captured work: the same on the same memory at each launch, in the order of its stream."""

    def __init__(self, device: "FakeDevice", work: list[Enqueued]) -> None:
        self.device = device
        self.work = work
        self.freed = False

    def launch(self, stream: FakeStream) -> None:
        if self.freed:
            self.device.hazards.append("a graph is launched that was freed")
        for item in self.work:
            self.device.enqueue(item.what, stream, item.reads, item.writes, item.do)
        self.device.launches += 1

    def free(self) -> None:
        self.freed = True
        self.device.live.discard(id(self))


class FakeDevice:
    """Attributes:
    hazards: what was done without being ordered; empty where all is well.
    live: what was handed out and not freed.
    work: everything that was enqueued.
    uploaded_bytes: what was copied from the host.
    launches: how often a graph was launched.
    lost: whether it is gone; every use of it fails then.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.hazards: list[str] = []
        self.live: set[int] = set()
        self.work: list[Done] = []
        self.host: Clock = {}
        self.uploaded_bytes = 0
        self.launches = 0
        self.closed = False
        self.lost = False
        self._recording: Recording | None = None
        self.lock = threading.RLock()
        self._kept: list[object] = []
        self._room = room

    def current(self) -> nullcontext[None]:
        if self.lost:
            raise DeviceLostError("The GPU is lost to this process.")
        return nullcontext()

    def allocate(self, nbytes: int) -> Memory:
        self._room -= nbytes
        if self._room < 0:
            raise DeviceOutOfMemoryError("The GPU is out of memory.")
        return self.handed_out(Memory(self, "device memory", self._garbage(nbytes)))

    def page_lock(self, nbytes: int) -> Memory:
        return self.handed_out(Memory(self, "page-locked memory", self._garbage(nbytes)))

    def stream(self) -> FakeStream:
        return self.handed_out(FakeStream(self, len(self._kept) + 1))

    def event(self) -> FakeEvent:
        return self.handed_out(FakeEvent(self))

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
        return self.handed_out(FakeGraph(self, recording.work))

    def forget(self) -> None:
        """What was done so far no longer counts: opening an engine tries its graphs."""
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
                self.hazards.append(f"{what} is given to another stream during a capture")
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
        """Whether nothing orders the two."""
        return (
            one.seen.get(other.stream, 0) < other.count
            and other.seen.get(one.stream, 0) < one.count
        )

    def handed_out(self, thing):
        self._kept.append(thing)
        self.live.add(id(thing))
        return thing

    def _garbage(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xA5, np.uint8)


class FakeNetwork:
    """A graph given as a function: uint8 (N, 512, 512, 3) -> the bytes of each output."""

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
            raise NotCapturableError("It waits for the host in between.")
        return self.device.handed_out(FakeFixedRun(self, tiles, tensors))

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class FakeFixedRun:
    """A network's run on fixed places."""

    network: FakeNetwork
    tiles: int
    tensors: dict[str, Span]

    def enqueue(self, stream: FakeStream) -> None:
        self.network.enqueue(self.tiles, self.tensors, stream)

    def free(self) -> None:
        self.network.device.live.discard(id(self))


def tiles(n: int, seed: int = 0) -> np.ndarray:
    """Noise, which tells tiles apart: uint8 (n, 512, 512, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 512, 512, 3), dtype=np.uint8)


def segmenter(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What the colour bundle's segmenter computes."""
    mask = (pixels[..., 0] < 100).astype(np.uint8)
    return {"tumor_pixels": mask.sum((1, 2), dtype=np.int32), "mask": mask}


def classifiers(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What the colour bundle's classifiers compute."""
    green = pixels[..., 1].mean(axis=(1, 2), dtype=np.float32) / np.float32(255)
    return {"p_strong": np.repeat(green[:, None], 5, axis=1)}
