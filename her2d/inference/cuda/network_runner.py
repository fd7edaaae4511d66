"""One network with its stream, its outputs and the largest batch that fits into memory."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cuda.device import (
    Device,
    DeviceOutOfMemoryError,
    Graph,
    Network,
    NotCapturableError,
    Span,
    freed_by,
)
from her2d.method import TILE_PX
from her2d.system.loggers import get_logger

log = get_logger(__name__)

TILE_BYTES = TILE_PX * TILE_PX * 3


_GraphKey: TypeAlias = tuple[int, int, int]
"""Number of tiles, identity of the source buffer, first byte in it."""


@dataclass(frozen=True, slots=True)
class Output:
    """A network's output: its name and the bytes that one tile's value takes."""

    name: str
    bytes_per_tile: int


class NetworkRunner:
    """Runs a network on tiles that are on the device and copies its outputs to the host.

    For one thread at a time. All its work is ordered by its stream. A batch that does not fit into
    memory is run in halves, and later batches are not tried whole again. Full batches from a source
    given to `capture` are launched as CUDA graphs.

    Args:
        network: belongs to the caller, who closes it.
        outputs: every output to copy.
        capacity: largest number of tiles in one call of `run`.
        name: the network's name in log events.

    Attributes:
        stream: where its work is enqueued.
        most: largest number of tiles given to the network at once.

    Raises:
        DeviceOutOfMemoryError: the buffers do not fit; nothing stays allocated.
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
        self._graphs: dict[_GraphKey, Graph] = {}
        with ExitStack() as stack:
            self.stream = freed_by(stack, device.stream())
            self._done = freed_by(stack, device.event())
            sizes = {output.name: capacity * output.bytes_per_tile for output in outputs}
            self._on_device = {
                name: freed_by(stack, device.allocate(size)) for name, size in sizes.items()
            }
            self._on_host = {
                name: freed_by(stack, device.page_lock(size)) for name, size in sizes.items()
            }
            self._resources = stack.pop_all()

    def run(self, tiles: int, source: Span) -> Mapping[str, NDArray[np.uint8]]:
        """Run the network and wait for its outputs.

        Args:
            tiles: number of tiles, at most `capacity`.
            source: where they lie in a row; the caller has made the stream wait for them.

        Returns:
            Each output's bytes by name, uint8 (tiles * bytes_per_tile,).

        Raises:
            DeviceOutOfMemoryError: not even one tile fits.
            EngineError: the network cannot be run.
        """
        started = 0
        while started < tiles:
            size = min(self.most, tiles - started)
            try:
                self._enqueue(size, started, source)
            except DeviceOutOfMemoryError:
                if size == 1:
                    raise
                self.most = size // 2
                log.warning("batch_halved", network=self._name, tiles=self.most)
                continue
            started += size
        return self._read_outputs(tiles)

    def capture(self, source: Span) -> bool:
        """Try to capture a CUDA graph that later runs of full batches at `source` launch.

        A graph is used only if its outputs equal the plain run's byte for byte, also after a run of
        another size. Where it differs or cannot be captured, the reason is logged and such batches
        are enqueued as all others. Call it before another thread uses the device.

        Args:
            source: `most` tiles in a row that resemble later ones; the caller has made the stream
                wait for them. The buffer must live as long as this runner.

        Returns:
            Whether later runs use a graph. In either case no work is left on the stream.

        Raises:
            EngineError: the plain run fails too.
        """
        try:
            with ExitStack() as stack:
                try:
                    graph = self._checked_graph(source, stack)
                finally:
                    # The run and its graph must not be freed while they are in progress.
                    self._finish()
                self._resources.callback(stack.pop_all().close)
        except (NotCapturableError, DeviceOutOfMemoryError) as error:
            log.info("cuda_graph_not_used", network=self._name, reason=str(error))
            return False
        self._graphs[_graph_key(self.most, source)] = graph
        return True

    def free(self) -> None:
        """Free everything but the network. Harmless if repeated."""
        self._resources.close()

    def _checked_graph(self, source: Span, stack: ExitStack) -> Graph:
        """Capture a full batch's graph, compare it with the plain run, and let `stack` free it."""
        tiles, spans = self.most, self._spans(0, source)
        run = freed_by(stack, self._network.fixed(tiles, spans))
        # At a shape's first run the library prepares things once, which no graph may contain.
        run.enqueue(self.stream)
        expected = self._read_outputs(tiles)
        graph = freed_by(stack, self._device.capture(self.stream, lambda: run.enqueue(self.stream)))
        for name, values in expected.items():
            self._on_host[name].write(0, ~values)
            to = Span(self._on_device[name])
            self._device.copy_in(to, self._on_host[name], len(values), self.stream)
        self._network.enqueue(1, spans, self.stream)
        graph.launch(self.stream)
        found = self._read_outputs(tiles)
        if not all(np.array_equal(found[name], expected[name]) for name in expected):
            raise NotCapturableError("The graph's outputs differ from the plain run's.")
        return graph

    def _enqueue(self, size: int, started: int, source: Span) -> None:
        graph = self._graphs.get(_graph_key(size, source)) if started == 0 else None
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


def _graph_key(tiles: int, source: Span) -> _GraphKey:
    return tiles, id(source.buffer), source.at
