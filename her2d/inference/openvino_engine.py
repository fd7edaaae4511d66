"""OpenVINO on the CPU: a compiled plan in bf16, int8 or fp32.

A plan is the part's ONNX graph, which OpenVINO compiles for this processor when the engine opens.
In bf16 it computes about twice as fast as fp32 on processors whose instructions include bfloat16
(AVX512-BF16, AMX); others would emulate them, so there a plan in bf16 is refused.
"""

from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from her2d.inference.engine import EngineError, Tiles
from her2d.inference.host_tiles import joined, shares
from her2d.inference.options import Precision
from her2d.inference.platforms import library_of
from her2d.inference.ways import Way
from her2d.method import TILE_PX

_DEVICE = "CPU"
# Of an int8 graph, OpenVINO computes what is not quantised in fp32.
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


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


class OpenVinoNetwork:
    """One compiled graph with a request for each call, which holds its activations' memory.

    Args:
        path: where the graph comes from.
        graph: its path as `loading_graph` gives it, or its content.
        outputs: what to compute, in this order.
        way: how to compute it.
        precision: what to compute in.

    Raises:
        EngineError: OpenVINO is not installed, the processor lacks the precision, the graph cannot
            be loaded, or its inputs and outputs are not those expected.
    """

    def __init__(
        self,
        path: Path,
        graph: str | bytes,
        outputs: tuple[str, ...],
        way: Way,
        precision: Precision,
    ) -> None:
        library = library_of("openvino")
        if problem := precision_problem(library, precision):
            raise EngineError(problem)
        core = library.Core()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": way.calls * way.threads,
            "NUM_STREAMS": way.calls,
            # Pinned threads would wait for the decoders on their core while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = core.compile_model(core.read_model(graph), _DEVICE, options)
            self._requests = [compiled.create_infer_request() for _ in range(way.calls)]
        except Exception as error:
            raise EngineError(f"OpenVINO cannot load {path}: {error}") from error
        _check_input(compiled, path)
        self._outputs = [_index_of(compiled, name, path) for name in outputs]

    def run(self, tiles: Tiles) -> list[Any]:
        parts = [np.ascontiguousarray(part) for part in shares(tiles, len(self._requests))]
        requests = self._requests[: len(parts)]
        try:
            try:
                for request, part in zip(requests, parts, strict=True):
                    request.start_async({0: part}, share_inputs=True)
            finally:
                self._await(requests)
            return joined([self._outputs_of(request) for request in requests])
        except Exception as error:
            raise EngineError(
                f"OpenVINO failed on a batch of {len(tiles)} tiles: {error}"
            ) from error

    def _outputs_of(self, request: Any) -> list[Any]:
        # The request's own memory is written again by the next call.
        return [request.get_output_tensor(index).data.copy() for index in self._outputs]

    def _await(self, requests: list[Any]) -> None:
        """Wait for every request, also if one fails, so that none computes on. Raises its error."""
        with ExitStack() as waits:
            for request in requests:
                waits.callback(request.wait)


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
