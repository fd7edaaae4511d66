"""OpenVINO on the CPU: a compiled plan in bf16, int8 or fp32.

A plan is the part's ONNX graph, which OpenVINO compiles for this processor when the engine opens.
In bf16 it computes about twice as fast as fp32 on processors whose instructions include bfloat16
(AVX512-BF16, AMX); others would emulate them, so there a plan in bf16 is refused.
"""

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from her2d.inference.engine import (
    CLASSIFIERS_OUTPUTS,
    SEGMENTER_OUTPUTS,
    EngineError,
    Tiles,
)
from her2d.inference.graph_files import read_graph
from her2d.inference.host_tiles import HostEngine, HostNetwork, p_strong_of
from her2d.inference.options import Precision, recorded_name
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.inference.platforms import library_of
from her2d.inference.separate_folds import SeparateFolds, open_separately
from her2d.method import TILE_PX
from her2d.system.cpus import usable_cpus

_DEVICE = "CPU"
# Of an int8 graph, OpenVINO computes what is not quantised in fp32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(HostEngine):
    """Both graphs of a plan, compiled by OpenVINO.

    Args:
        files: the plan.
        sidecar: what describes it.
        threads: number of threads in all; 0 is one for each core this process may use.
        separate_folds: see `EngineOptions`.

    Raises:
        EngineError: OpenVINO is not installed, the processor lacks the precision, or a graph cannot
            be loaded.
    """

    def __init__(
        self,
        files: PlanFiles,
        sidecar: Sidecar,
        *,
        threads: int = 0,
        separate_folds: bool = False,
    ) -> None:
        library = library_of("openvino")
        if problem := precision_problem(library, files.precision):
            raise EngineError(problem)
        core = library.Core()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[files.precision],
            "INFERENCE_NUM_THREADS": threads or usable_cpus(),
            "NUM_STREAMS": 1,
            # Pinned threads would wait for the decoders on their core while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
        # Each network's call uses all threads, so the two take turns.
        turn = threading.Lock()
        segmenter = read_graph(files.segmenter, sidecar.segmenter.plan_sha256)
        segmenting = _Network(core, files.segmenter, segmenter, SEGMENTER_OUTPUTS, options, turn)
        del segmenter
        classifiers = read_graph(files.classifiers, sidecar.classifiers.plan_sha256)

        def open_classifiers(graph: bytes) -> HostNetwork:
            return _Network(core, files.classifiers, graph, CLASSIFIERS_OUTPUTS, options, turn)

        joined, folds = open_classifiers(classifiers), None
        if separate_folds and files.precision == "fp32":
            folds = open_separately(classifiers, joined, open_classifiers, p_strong_of)
        elif separate_folds:
            # It fuses other steps then, and rounds to bf16 elsewhere.
            folds = SeparateFolds(
                problem=f"In {files.precision}, OpenVINO does not compute exactly the same one at a"
                " time as all at once."
            )
        super().__init__(segmenting, joined, recorded_name("openvino", files.precision), folds)


def precision_problem(library: ModuleType, precision: Precision) -> str | None:
    """Return why this processor cannot compute in a precision, None if it can.

    Args:
        library: the module `openvino`.
        precision: of the plan.
    """
    if precision not in _HINTS:
        return f"OpenVINO on the CPU supports fp32, bf16 and int8, not {precision}."
    if precision == "bf16" and "BF16" not in _capabilities(library):
        return "This processor has no instructions for bf16 (AVX512-BF16 or AMX)."
    return None


def _capabilities(library: ModuleType) -> list[str]:
    found: list[str] = library.Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return found


class _Network:
    """One compiled graph with one request, which is reused: it holds all activations' memory."""

    def __init__(
        self,
        core: Any,
        path: Path,
        graph: bytes,
        outputs: tuple[str, ...],
        options: dict[str, Any],
        turn: threading.Lock,
    ) -> None:
        try:
            compiled = core.compile_model(core.read_model(graph), _DEVICE, options)
            self._request = compiled.create_infer_request()
        except Exception as error:
            raise EngineError(f"OpenVINO cannot load {path}: {error}") from error
        _check_input(compiled, path)
        self._outputs = [_index_of(compiled, name, path) for name in outputs]
        self._turn = turn

    def run(self, tiles: Tiles) -> list[Any]:
        with self._turn:
            try:
                self._request.infer({0: np.ascontiguousarray(tiles)}, share_inputs=True)
                # The request's own memory is written again by the next call.
                return [self._request.get_output_tensor(i).data.copy() for i in self._outputs]
            except Exception as error:
                raise EngineError(
                    f"OpenVINO failed on a batch of {len(tiles)} tiles: {error}"
                ) from error


def _check_input(compiled: Any, path: Path) -> None:
    shapes = [
        (tuple(side.get_length() for side in list(given.partial_shape)[1:]), str(given.any_name))
        for given in compiled.inputs
    ]
    if shapes != [((TILE_PX, TILE_PX, 3), "tiles")]:
        raise EngineError(f"{path} must have one input, tiles, uint8 (N, 512, 512, 3).")


def _index_of(compiled: Any, name: str, path: Path) -> int:
    for index, output in enumerate(compiled.outputs):
        if name in output.names:
            return index
    raise EngineError(f"{path} lacks the output {name}.")
