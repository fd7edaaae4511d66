"""One graph with its stream, its outputs and the batch it can bear."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from her2d.inference.cuda.device import (
    Device,
    DeviceOutOfMemoryError,
    Network,
    Span,
)
from her2d.inference.cuda.scope import Scope

log = structlog.get_logger(__name__)

TILE_BYTES = 512 * 512 * 3


@dataclass(frozen=True, slots=True)
class Output:
    """A graph's output: its name and what one tile's takes."""

    name: str
    bytes_per_tile: int


class Lane:
    """Runs a network on tiles that are on the device and brings its outputs to the host.

    One thread at a time. Its stream orders everything it does; a batch that does not fit into
    memory is run in halves, and later ones are not tried whole again.

    Args:
        capacity: tiles that it may be run on.

    Attributes:
        stream: where its work is enqueued.
        most: tiles given to the network at once.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        outputs: tuple[Output, ...],
        capacity: int,
        name: str,
    ) -> None:
        self.most = min(capacity, network.most)
        self.capacity = capacity
        self._name = name
        self._device = device
        self._network = network
        self._outputs = outputs
        with Scope() as self._scope:
            own = self._scope.own
            self.stream = own(device.stream())
            self._done = own(device.event())
            sizes = {output.name: capacity * output.bytes_per_tile for output in outputs}
            self._on_device = {name: own(device.allocate(size)) for name, size in sizes.items()}
            self._on_host = {name: own(device.page_lock(size)) for name, size in sizes.items()}

    def run(self, tiles: int, source: Span) -> Mapping[str, NDArray[np.uint8]]:
        """Each output's bytes, uint8 (tiles * bytes_per_tile,), once they are here.

        Args:
            tiles: how many, at most `capacity`.
            source: where they lie in a row; the caller has made the stream wait for them.

        Raises:
            EngineError: DeviceOutOfMemoryError where not even one tile fits.
        """
        started = 0
        while started < tiles:
            size = min(self.most, tiles - started)
            try:
                self._network.enqueue(size, self._spans(started, source), self.stream)
            except DeviceOutOfMemoryError:
                if size == 1:
                    raise
                self.most = size // 2
                log.warning("batch_halved", network=self._name, tiles=self.most)
                continue
            started += size
        for output in self._outputs:
            buffer = Span(self._on_device[output.name])
            nbytes = tiles * output.bytes_per_tile
            self._device.copy_out(self._on_host[output.name], 0, buffer, nbytes, self.stream)
        self.stream.record(self._done)
        self._done.synchronize()
        return {
            output.name: self._on_host[output.name].read(0, tiles * output.bytes_per_tile)
            for output in self._outputs
        }

    def free(self) -> None:
        """Free what it holds; the network is its owner's."""
        self._scope.free()

    def _spans(self, started: int, source: Span) -> dict[str, Span]:
        spans = {"tiles": Span(source.buffer, source.at + started * TILE_BYTES)}
        for output in self._outputs:
            at = started * output.bytes_per_tile
            spans[output.name] = Span(self._on_device[output.name], at)
        return spans
