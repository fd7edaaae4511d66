"""Device memory for tiles: a ring of upload slots and a pool of slots for kept tiles."""

import queue
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cuda.device import Device, Span, Stream, freed_by
from her2d.inference.cuda.network_runner import TILE_BYTES
from her2d.inference.engine import EngineError

S = TypeVar("S")
_POLL_S = 0.2


class BufferPool(Generic[S]):
    """A fixed number of slots that any thread may take and give back.

    Args:
        slots: all of them free at first.
    """

    def __init__(self, slots: Sequence[S]) -> None:
        self._free: queue.SimpleQueue[S] = queue.SimpleQueue()
        self._closed = threading.Event()
        for slot in slots:
            self._free.put(slot)

    def take(self) -> S:
        """Wait for a free slot and take it.

        Raises:
            EngineError: the pool was closed.
        """
        while not self._closed.is_set():
            try:
                return self._free.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        raise EngineError("The engine was closed.")

    def give_back(self, slot: S) -> None:
        """Make a slot free again."""
        self._free.put(slot)

    def close(self) -> None:
        """End every wait for a slot with EngineError."""
        self._closed.set()


class UploadSlot:
    """Page-locked memory for a batch, its buffer on the device, and the events that order them.

    Args:
        tiles: number of tiles that fit.
        copying: the stream of all uploads.

    Raises:
        DeviceOutOfMemoryError: there is no room for it; nothing stays allocated.
    """

    def __init__(self, device: Device, tiles: int, copying: Stream) -> None:
        self._device = device
        self._copying = copying
        with ExitStack() as stack:
            self._host = freed_by(stack, device.page_lock(tiles * TILE_BYTES))
            self.buffer = freed_by(stack, device.allocate(tiles * TILE_BYTES))
            self._uploaded = freed_by(stack, device.event())
            self._read = freed_by(stack, device.event())
            self._resources = stack.pop_all()

    def fill(self, tiles: Sequence[NDArray[np.uint8]]) -> None:
        """Start to upload tiles, uint8 (512, 512, 3) each; returns before they have arrived."""
        # An abandoned batch may still be copied from this page-locked memory.
        self._uploaded.synchronize()
        for number, tile in enumerate(tiles):
            self._host.write(number * TILE_BYTES, np.ascontiguousarray(tile).reshape(-1))
        self._copying.wait(self._read)
        nbytes = len(tiles) * TILE_BYTES
        self._device.copy_in(Span(self.buffer), self._host, nbytes, self._copying)
        self._copying.record(self._uploaded)

    def wait_uploaded(self, stream: Stream) -> None:
        """Make all later work of `stream` wait for the upload."""
        stream.wait(self._uploaded)

    def copy_tile_to(self, index: int, to: Span, stream: Stream) -> None:
        """Copy tile `index` to another place on the device, once it is uploaded."""
        stream.wait(self._uploaded)
        source = Span(self.buffer, index * TILE_BYTES)
        self._device.copy(to, source, TILE_BYTES, stream)

    def mark_read(self, stream: Stream) -> None:
        """Make the next upload wait for all that `stream` was given so far."""
        stream.record(self._read)

    def free(self) -> None:
        """Free memory and events. Harmless if repeated."""
        self._resources.close()


class TileSlot:
    """Room for one kept tile in the pool's device memory.

    Args:
        memory: where the tile is stored.
    """

    def __init__(self, device: Device, memory: Span) -> None:
        self._device = device
        self._memory = memory
        with ExitStack() as stack:
            self._copied = freed_by(stack, device.event())
            self._read = freed_by(stack, device.event())
            self._resources = stack.pop_all()

    def fill(self, source: Span, stream: Stream) -> None:
        """Copy a tile into the slot, on the device."""
        # A classification that failed may still be reading the slot.
        stream.wait(self._read)
        self._device.copy(self._memory, source, TILE_BYTES, stream)
        stream.record(self._copied)

    def copy_to(self, to: Span, stream: Stream) -> None:
        """Copy the tile out of the slot, once it has arrived there."""
        stream.wait(self._copied)
        self._device.copy(to, self._memory, TILE_BYTES, stream)
        stream.record(self._read)

    def free(self) -> None:
        """Free the events. Harmless if repeated."""
        self._resources.close()
