"""The default back end: ONNX Runtime on the CPU."""

from pathlib import Path
from typing import Any

import onnxruntime as ort

from her2d.bundle.loading import Bundle
from her2d.inference.engine import (
    CLASSIFIERS_OUTPUTS,
    SEGMENTER_OUTPUTS,
    EngineError,
    Tiles,
)
from her2d.inference.graph_files import loading_graph
from her2d.inference.host_tiles import HostEngine
from her2d.inference.options import recorded_name
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

_ERROR_SEVERITY = 3


class OnnxRuntimeEngine(HostEngine):
    """Both graphs as ONNX Runtime sessions.

    Args:
        bundle: a verified bundle.
        threads: number of threads in all; 0 is one for each core this process may use.
        plan: int8 graphs to run in place of the bundle's graphs, and what describes them.

    Raises:
        EngineError: a graph cannot be loaded, or its inputs and outputs are not those expected.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 0, plan: tuple[PlanFiles, Sidecar] | None = None
    ) -> None:
        threads = threads or usable_cpus()
        if plan is None:
            graphs: Bundle | PlanFiles = bundle
            parts = bundle.manifest.parts
            hashes = parts.segmenter.sha256, parts.classifiers.sha256
        else:
            graphs, sidecar = plan
            hashes = sidecar.segmenter.plan_sha256, sidecar.classifiers.plan_sha256
        super().__init__(
            _Network(graphs.segmenter, hashes[0], SEGMENTER_OUTPUTS, threads),
            _Network(graphs.classifiers, hashes[1], CLASSIFIERS_OUTPUTS, threads),
            recorded_name("onnxruntime", plan[0].precision if plan else "fp32"),
            threads,
        )


class _Network:
    """One graph and its session."""

    def __init__(self, path: Path, sha256: str, outputs: tuple[str, ...], threads: int) -> None:
        self._session = _open(path, sha256, outputs, threads)
        self._outputs = outputs

    def run(self, tiles: Tiles) -> list[Any]:
        try:
            found: list[Any] = self._session.run(self._outputs, {"tiles": tiles})
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on a batch of {len(tiles)} tiles: {error}"
            ) from error
        return found


def _open(path: Path, sha256: str, outputs: tuple[str, ...], threads: int) -> ort.InferenceSession:
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
    with loading_graph(path, sha256) as graph:
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"ONNX Runtime cannot load {path}: {error}") from error
    found_inputs = {(i.name, i.type, tuple(i.shape[1:])) for i in session.get_inputs()}
    if found_inputs != {("tiles", "tensor(uint8)", (TILE_PX, TILE_PX, 3))}:
        raise EngineError(f"{path} must have one input, tiles, uint8 (N, 512, 512, 3).")
    if missing := set(outputs) - {output.name for output in session.get_outputs()}:
        raise EngineError(f"{path} lacks the output {', '.join(sorted(missing))}.")
    return session
