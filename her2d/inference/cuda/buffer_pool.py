"""Where tiles lie on the device: a ring of upload slots and a pool of kept tiles."""

import queue
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cuda.device import Device, Span, Stream
from her2d.inference.cuda.network_runner import TILE_BYTES
from her2d.inference.cuda.scope import Scope
from her2d.inference.engine import EngineError

P = TypeVar("P")
_LOOK_UP_S = 0.2


class BufferPool(Generic[P]):
    """A fixed number of places, taken and given back by any thread."""

    def __init__(self, places: Sequence[P]) -> None:
        self._free: queue.SimpleQueue[P] = queue.SimpleQueue()
        self._closed = threading.Event()
        for place in places:
            self._free.put(place)

    def take(self) -> P:
        """A free place, as soon as there is one. Raises EngineError once closed."""
        while not self._closed.is_set():
            try:
                return self._free.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                continue
        raise EngineError("The engine was closed.")

    def give_back(self, place: P) -> None:
        self._free.put(place)

    def close(self) -> None:
        """End every wait for a place."""
        self._closed.set()


class UploadSlot:
    """Page-locked memory for a batch, its buffer on the device, and what orders the two."""

    def __init__(self, device: Device, tiles: int, copying: Stream) -> None:
        self._device = device
        self._copying = copying
        with Scope() as self._scope:
            self._host = self._scope.own(device.page_lock(tiles * TILE_BYTES))
            self.buffer = self._scope.own(device.allocate(tiles * TILE_BYTES))
            self._uploaded = self._scope.own(device.event())
            self._read = self._scope.own(device.event())

    def fill(self, tiles: Sequence[NDArray[np.uint8]]) -> None:
        """Send tiles, uint8 (512, 512, 3) each, on their way to the device."""
        # A batch that was given up may still be under way from this very memory.
        self._uploaded.synchronize()
        for number, tile in enumerate(tiles):
            self._host.write(number * TILE_BYTES, np.ascontiguousarray(tile).reshape(-1))
        self._copying.wait(self._read)
        nbytes = len(tiles) * TILE_BYTES
        self._device.copy_in(Span(self.buffer), self._host, nbytes, self._copying)
        self._copying.record(self._uploaded)

    def wait_uploaded(self, stream: Stream) -> None:
        """What `stream` does from now on finds the tiles there."""
        stream.wait(self._uploaded)

    def copy_tile_to(self, index: int, to: Span, stream: Stream) -> None:
        """Copy a tile elsewhere on the device, once it is here."""
        stream.wait(self._uploaded)
        source = Span(self.buffer, index * TILE_BYTES)
        self._device.copy(to, source, TILE_BYTES, stream)

    def mark_read(self, stream: Stream) -> None:
        """The next tiles do not come before what `stream` was given so far has read these."""
        stream.record(self._read)

    def free(self) -> None:
        self._scope.free()


class TileSlot:
    """Room for one kept tile in the pool."""

    def __init__(self, device: Device, pool: Span) -> None:
        self._device = device
        self._pool = pool
        with Scope() as self._scope:
            self._copied = self._scope.own(device.event())
            self._read = self._scope.own(device.event())

    def fill(self, source: Span, stream: Stream) -> None:
        """Copy a tile here, on the device."""
        # A classification that failed may have left its reading behind.
        stream.wait(self._read)
        self._device.copy(self._pool, source, TILE_BYTES, stream)
        stream.record(self._copied)

    def copy_to(self, to: Span, stream: Stream) -> None:
        """Copy the tile on, once it is here."""
        stream.wait(self._copied)
        self._device.copy(to, self._pool, TILE_BYTES, stream)
        stream.record(self._read)

    def free(self) -> None:
        self._scope.free()
