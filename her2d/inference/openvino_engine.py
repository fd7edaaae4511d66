"""OpenVINO on the CPU: a compiled plan in bf16, int8 or fp32.

A plan is the part's ONNX graph, which OpenVINO compiles for this processor when the engine opens.
In bf16 it computes about twice as fast as fp32 on processors whose instructions include bfloat16
(AVX512-BF16, AMX); others would emulate them, so there a plan in bf16 is refused.
"""

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
from her2d.inference.graph_files import loading_graph
from her2d.inference.host_tiles import HostEngine
from her2d.inference.options import Precision, recorded_name
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.inference.platforms import library_of
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

    Raises:
        EngineError: OpenVINO is not installed, the processor lacks the precision, or a graph cannot
            be loaded.
    """

    def __init__(self, files: PlanFiles, sidecar: Sidecar, *, threads: int = 0) -> None:
        library = library_of("openvino")
        if problem := precision_problem(library, files.precision):
            raise EngineError(problem)
        core, threads = library.Core(), threads or usable_cpus()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[files.precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads would wait for the decoders on their core while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
        segmenter, classifiers = (
            _Network(core, path, part.plan_sha256, outputs, options)
            for path, part, outputs in (
                (files.segmenter, sidecar.segmenter, SEGMENTER_OUTPUTS),
                (files.classifiers, sidecar.classifiers, CLASSIFIERS_OUTPUTS),
            )
        )
        name = recorded_name("openvino", files.precision)
        super().__init__(segmenter, classifiers, name, threads)


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
        sha256: str,
        outputs: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        with loading_graph(path, sha256) as graph:
            try:
                compiled = core.compile_model(core.read_model(graph), _DEVICE, options)
                self._request = compiled.create_infer_request()
            except Exception as error:
                raise EngineError(f"OpenVINO cannot load {path}: {error}") from error
        _check_input(compiled, path)
        self._outputs = [_index_of(compiled, name, path) for name in outputs]

    def run(self, tiles: Tiles) -> list[Any]:
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
