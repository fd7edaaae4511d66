"""Build a serialised TensorRT plan from an ONNX graph. TensorRT for RTX needs no GPU for it.

TensorRT 10, TensorRT 11 and TensorRT for RTX differ in their features; the code looks for each
feature and does not infer it from a version number.

Without a device a plan cannot be inspected: the builder returns bytes, deserialising them ends in
cudaError 35, and `get_engine_validity` of TensorRT for RTX calls every plan invalid without a
diagnosis. So the profile is read back from the builder's input. On a device, `TensorRtNetwork`
compares it with the profile in the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.plans import Profile
from her2d.inference.platforms import library_of
from her2d.inference.tensorrt_log import log_of
from her2d.method import TILE_PX

BuildProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with (phase, steps done, number of steps) while a plan is built."""

_INPUT = "tiles"
_TILE = (TILE_PX, TILE_PX, 3)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a parsed network; a dimension of -1 is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A serialised plan and the network it was built from.

    Attributes:
        plan: the serialised plan.
        profile: batches that the builder accepted.
        inputs, outputs: of the parsed network.
    """

    plan: bytes
    profile: Profile
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def build_plan(
    backend: BackendName,
    graph: bytes,
    profile: Profile,
    *,
    timing_cache: Path,
    progress: BuildProgress,
) -> BuiltPlan:
    """Build a plan from an ONNX graph with the input `tiles`.

    Args:
        backend: `tensorrt` or `tensorrt_rtx`.
        graph: a serialised ONNX model.
        profile: batches that the plan must accept.
        timing_cache: file that keeps kernel timings between builds; unused for tensorrt_rtx.
        progress: called at the beginning, at every step and at the end of each phase.

    Raises:
        EngineError: the parser or the builder refuses the graph; the message includes its reason.
    """
    trt = library_of(backend)
    messages = log_of(trt)
    builder = trt.Builder(messages)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(graph):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{backend} cannot parse the graph: {errors}")
    shapes = _shapes(builder, profile)
    config = _config(trt, builder, shapes, progress)
    keeps_timings = backend == "tensorrt"
    if keeps_timings:
        _load_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{backend} cannot build the graph: {messages.last_error or 'it gives no reason'}"
        )
    if keeps_timings:
        timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return BuiltPlan(
        bytes(plan),
        _profile(shapes),
        tuple(_tensor(network.get_input(i)) for i in range(network.num_inputs)),
        tuple(_tensor(network.get_output(i)) for i in range(network.num_outputs)),
    )


def _network_flags(trt: Any) -> int:
    """Ask for strong types; in TensorRT 11 all networks have them and the flag is gone."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _shapes(builder: Any, profile: Profile) -> Any:
    """Convert a profile to TensorRT's form."""
    shapes = builder.create_optimization_profile()
    batches = (profile.smallest, profile.best, profile.most)
    shapes.set_shape(_INPUT, *((n, *_TILE) for n in batches))
    return shapes


def _profile(shapes: Any) -> Profile:
    """Convert a profile from TensorRT's form."""
    smallest, best, most = (int(shape[0]) for shape in shapes.get_shape(_INPUT))
    return Profile(smallest=smallest, best=best, most=most)


def _config(trt: Any, builder: Any, shapes: Any, progress: BuildProgress) -> Any:
    config = builder.create_builder_config()
    if config.add_optimization_profile(shapes) < 0:
        raise EngineError(f"TensorRT refuses the batches {_profile(shapes)}.")
    # By default TensorRT rounds fp32 factors to ten bits of mantissa (TF32).
    config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = _monitor(trt, progress)
    return config


def _load_timings(config: Any, path: Path) -> None:
    known = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
        # Another version or card wrote the cache, so TensorRT measures all timings again.
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, tensor.dtype.name.lower(), tuple(tensor.shape))


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self._steps[phase])
            return True

        def phase_finish(self, phase: str) -> None:
            progress(phase, self._steps[phase], self._steps[phase])

    return Monitor()
