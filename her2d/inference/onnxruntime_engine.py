"""The default back end: ONNX Runtime on the CPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime as ort

from her2d.bundle.loading import Bundle
from her2d.inference.cpu_graph.rewrite import rewritten
from her2d.inference.engine import (
    CLASSIFIERS_OUTPUTS,
    SEGMENTER_OUTPUTS,
    EngineError,
    Tiles,
)
from her2d.inference.graph_files import loading_graph, read_graph
from her2d.inference.host_tiles import HostEngine, HostNetwork, joined, p_strong_of, shares
from her2d.inference.options import BatchSizes, recorded_name
from her2d.inference.separate_folds import open_separately
from her2d.inference.ways import Way, simplest_way
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

_ERROR_SEVERITY = 3
# Larger networks gain less than 1 % and would take 200 MB more, for positions and the content.
_MOST_TO_REWRITE = 50_000_000


class OnnxRuntimeEngine(HostEngine):
    """A bundle's graphs in fp32, as ONNX Runtime sessions.

    Small graphs are rewritten for the CPU where that changes no bit of the results.

    Args:
        bundle: a verified bundle.
        threads: number of threads in all; 0 is one for each core this process may use.
        separate_folds: see `EngineOptions`.

    Raises:
        EngineError: a graph cannot be loaded, or its inputs and outputs are not those expected.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 0, separate_folds: bool = False) -> None:
        threads = threads or usable_cpus()
        way, parts = simplest_way(threads), bundle.her2net
        segmenter = open_segmenter(bundle, way)

        def open_classifiers(graph: str | bytes) -> HostNetwork:
            return OnnxRuntimeNetwork(
                bundle.classifiers, graph_for_cpu(graph), CLASSIFIERS_OUTPUTS, way
            )

        with loading_graph(bundle.classifiers, parts.classifiers.sha256) as graph:
            joined, folds = open_classifiers(graph), None
        if separate_folds:
            content = read_graph(bundle.classifiers, parts.classifiers.sha256)
            folds = open_separately(content, joined, open_classifiers, p_strong_of)
        super().__init__(
            segmenter,
            joined,
            recorded_name("onnxruntime", "fp32"),
            threads,
            BatchSizes(way.batch, way.batch),
            folds,
        )


def open_segmenter(bundle: Bundle, way: Way) -> HostNetwork:
    """Load a bundle's segmenter, to run in some way. Raises EngineError."""
    with loading_graph(bundle.segmenter, bundle.manifest.parts.segmenter.sha256) as graph:
        return OnnxRuntimeNetwork(bundle.segmenter, graph_for_cpu(graph), SEGMENTER_OUTPUTS, way)


def graph_for_cpu(graph: str | bytes) -> str | bytes:
    """Return a graph, or the content of one that computes the same sooner.

    Args:
        graph: its path as `loading_graph` gives it, or its content.
    """
    if isinstance(graph, bytes):
        return rewritten(graph) or graph
    path = Path(graph)
    if path.stat().st_size > _MOST_TO_REWRITE:
        return graph
    return rewritten(path.read_bytes()) or graph


class OnnxRuntimeNetwork:
    """One graph and its session.

    Args:
        path: where the graph comes from.
        graph: its path as `loading_graph` gives it, or its content.
        outputs: what to compute, in this order.
        way: how to compute it.

    Raises:
        EngineError: the graph cannot be loaded, or its inputs and outputs are not those expected.
    """

    def __init__(self, path: Path, graph: str | bytes, outputs: tuple[str, ...], way: Way) -> None:
        self._session = _open(path, graph, outputs, way.threads)
        self._outputs = outputs
        self._callers = ThreadPoolExecutor(way.calls, thread_name_prefix="her2d-engine")
        self._calls = way.calls

    def run(self, tiles: Tiles) -> list[Any]:
        try:
            if self._calls == 1:
                return self._call(tiles)
            return joined(list(self._callers.map(self._call, shares(tiles, self._calls))))
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on a batch of {len(tiles)} tiles: {error}"
            ) from error

    def _call(self, tiles: Tiles) -> list[Any]:
        found: list[Any] = self._session.run(self._outputs, {"tiles": tiles})
        return found


def _open(
    path: Path, graph: str | bytes, outputs: tuple[str, ...], threads: int
) -> ort.InferenceSession:
    session = open_session(path, graph, threads)
    found_inputs = {(i.name, i.type, tuple(i.shape[1:])) for i in session.get_inputs()}
    if found_inputs != {("tiles", "tensor(uint8)", (TILE_PX, TILE_PX, 3))}:
        raise EngineError(f"{path} must have one input, tiles, uint8 (N, 512, 512, 3).")
    if missing := set(outputs) - {output.name for output in session.get_outputs()}:
        raise EngineError(f"{path} lacks the output {', '.join(sorted(missing))}.")
    return session


def open_session(path: Path, graph: str | bytes, threads: int) -> ort.InferenceSession:
    """Load a graph on the CPU.

    Args:
        path: where it comes from.
        graph: its path as `loading_graph` gives it, or its content.
        threads: how many compute it.

    Raises:
        EngineError: ONNX Runtime cannot load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR_SEVERITY
    # Spinning threads would take cores that the other network and the decoders need. The pool that
    # sessions can share spins always, so each has its own, of which one works at a time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory that is planned ahead holds more activations at once than are ever in use: 500 MB more
    # at the paper's size, and no faster.
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load {path}: {error}") from error
