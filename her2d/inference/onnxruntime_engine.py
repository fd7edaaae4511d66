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
from her2d.inference.graph_files import read_graph
from her2d.inference.host_tiles import HostEngine, HostNetwork, p_strong_of
from her2d.inference.options import recorded_name
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.inference.separate_folds import open_separately
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

_ERROR_SEVERITY = 3


class OnnxRuntimeEngine(HostEngine):
    """Both graphs as ONNX Runtime sessions.

    Args:
        bundle: a verified bundle.
        threads: number of threads of each session; 0 is one for each core this process may use.
        separate_folds: see `EngineOptions`.
        plan: int8 graphs to run in place of the bundle's graphs, and what describes them.

    Raises:
        EngineError: a graph cannot be loaded, or its inputs and outputs are not those expected.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 0,
        separate_folds: bool = False,
        plan: tuple[PlanFiles, Sidecar] | None = None,
    ) -> None:
        threads = threads or usable_cpus()
        if plan is None:
            graphs: Bundle | PlanFiles = bundle
            parts = bundle.manifest.parts
            hashes = parts.segmenter.sha256, parts.classifiers.sha256
        else:
            graphs, sidecar = plan
            hashes = sidecar.segmenter.plan_sha256, sidecar.classifiers.plan_sha256
        segmenter = read_graph(graphs.segmenter, hashes[0])
        segmenting = _Network(graphs.segmenter, segmenter, SEGMENTER_OUTPUTS, threads)
        del segmenter
        classifiers = read_graph(graphs.classifiers, hashes[1])

        def open_classifiers(graph: bytes) -> HostNetwork:
            return _Network(graphs.classifiers, graph, CLASSIFIERS_OUTPUTS, threads)

        joined, folds = open_classifiers(classifiers), None
        if separate_folds:
            folds = open_separately(classifiers, joined, open_classifiers, p_strong_of)
        name = recorded_name("onnxruntime", plan[0].precision if plan else "fp32")
        super().__init__(segmenting, joined, name, folds)


class _Network:
    """One graph and its session."""

    def __init__(self, path: Path, graph: bytes, outputs: tuple[str, ...], threads: int) -> None:
        self._session = _open(path, graph, outputs, threads)
        self._outputs = outputs

    def run(self, tiles: Tiles) -> list[Any]:
        try:
            found: list[Any] = self._session.run(self._outputs, {"tiles": tiles})
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on a batch of {len(tiles)} tiles: {error}"
            ) from error
        return found


def _open(path: Path, graph: bytes, outputs: tuple[str, ...], threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR_SEVERITY
    # Spinning threads of a session would take cores that the decoders need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
