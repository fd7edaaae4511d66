"""One graph with its stream, its outputs and the batch it can bear."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray

from her2d.inference.cuda.device import (
    Device,
    DeviceOutOfMemoryError,
    Graph,
    Network,
    NotCapturableError,
    Span,
)
from her2d.inference.cuda.scope import Scope

log = structlog.get_logger(__name__)

TILE_BYTES = 512 * 512 * 3


_Place: TypeAlias = tuple[int, int, int]
"""How many tiles, which buffer, from which byte on."""


@dataclass(frozen=True, slots=True)
class Output:
    """A graph's output: its name and what one tile's takes."""

    name: str
    bytes_per_tile: int


class NetworkRunner:
    """Runs a network on tiles that are on the device and brings its outputs to the host.

    One thread at a time. Its stream orders everything it does; a batch that does not fit into
    memory is run in halves, and later ones are not tried whole again. Full batches from where it
    was told to capture are launched as CUDA graphs.

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
        self._graphs: dict[_Place, Graph] = {}
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
                self._give(size, started, source)
            except DeviceOutOfMemoryError:
                if size == 1:
                    raise
                self.most = size // 2
                log.warning("batch_halved", network=self._name, tiles=self.most)
                continue
            started += size
        return self._read_outputs(tiles)

    def capture(self, source: Span) -> bool:
        """Launch full batches that lie at `source` as a graph from now on, if that can be done.

        The graph is believed if it gives, byte for byte, what the plain run gives, also after a
        run of another size; where it does not or cannot be captured the reason is logged, and such
        batches are enqueued as all others. To be called before another thread has the device.

        Args:
            source: `most` tiles in a row, the likes of which will be run; the caller has made the
                stream wait for them. The place must stay as long as the lane does.

        Returns:
            whether it could be done. Nothing is under way any more in either case.

        Raises:
            EngineError: the plain run fails too.
        """
        try:
            with Scope() as scope:
                try:
                    graph = self._captured(source, scope)
                finally:
                    # The run and its graph must not be freed while they are under way.
                    self._finish()
        except (NotCapturableError, DeviceOutOfMemoryError) as error:
            log.info("cuda_graph_not_used", network=self._name, reason=str(error))
            return False
        self._scope.own(scope)
        self._graphs[_place(self.most, source)] = graph
        return True

    def free(self) -> None:
        """Free what it holds; the network is its owner's."""
        self._scope.free()

    def _captured(self, source: Span, scope: Scope) -> Graph:
        tiles, spans = self.most, self._spans(0, source)
        run = scope.own(self._network.fixed(tiles, spans))
        # The first run of a shape settles what the library works out once, which no graph may hold.
        run.enqueue(self.stream)
        expected = self._read_outputs(tiles)
        graph = scope.own(self._device.capture(self.stream, lambda: run.enqueue(self.stream)))
        for name, values in expected.items():
            self._on_host[name].write(0, ~values)
            to = Span(self._on_device[name])
            self._device.copy_in(to, self._on_host[name], len(values), self.stream)
        self._network.enqueue(1, spans, self.stream)
        graph.launch(self.stream)
        found = self._read_outputs(tiles)
        if not all(np.array_equal(found[name], expected[name]) for name in expected):
            raise NotCapturableError("Its graph does not give what the plain run gives.")
        return graph

    def _give(self, size: int, started: int, source: Span) -> None:
        graph = self._graphs.get(_place(size, source)) if started == 0 else None
        if graph is None:
            self._network.enqueue(size, self._spans(started, source), self.stream)
        else:
            graph.launch(self.stream)

    def _read_outputs(self, tiles: int) -> Mapping[str, NDArray[np.uint8]]:
        for output in self._outputs:
            buffer = Span(self._on_device[output.name])
            nbytes = tiles * output.bytes_per_tile
            self._device.copy_out(self._on_host[output.name], 0, buffer, nbytes, self.stream)
        self._finish()
        return {
            output.name: self._on_host[output.name].read(0, tiles * output.bytes_per_tile)
            for output in self._outputs
        }

    def _finish(self) -> None:
        self.stream.record(self._done)
        self._done.synchronize()

    def _spans(self, started: int, source: Span) -> dict[str, Span]:
        spans = {"tiles": Span(source.buffer, source.at + started * TILE_BYTES)}
        for output in self._outputs:
            at = started * output.bytes_per_tile
            spans[output.name] = Span(self._on_device[output.name], at)
        return spans


def _place(tiles: int, source: Span) -> _Place:
    return tiles, id(source.buffer), source.at
