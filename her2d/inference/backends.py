"""Which back ends could serve here, and why the others could not."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from her2d.bundle import Bundle
from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.inference.options import BACKENDS, BackendName, EngineOptions


@dataclass(frozen=True, slots=True)
class Candidate:
    """One back end's prospects on this machine.

    Attributes:
        usable: whether `auto` would try to open it.
        reason: what it would run on, or in one sentence why it cannot.
    """

    name: BackendName
    usable: bool
    reason: str


def candidates(bundle: Bundle | None, options: EngineOptions) -> tuple[Candidate, ...]:
    """Every back end, best first. Opens none of them and imports no library of theirs.

    Args:
        bundle: whose compiled plans are looked for; None looks for none.
        options: the precision that is asked for.
    """
    return tuple(candidate(name, bundle, options) for name in BACKENDS)


def candidate(name: BackendName, bundle: Bundle | None, options: EngineOptions) -> Candidate:
    """One back end's prospects."""
    try:
        return Candidate(name, True, _PROBES[name](bundle, options))
    except _Unusable as unusable:
        return Candidate(name, False, str(unusable))
    except NoGpuError as error:
        return Candidate(name, False, str(error))


class _Unusable(Exception):  # noqa: N818  it ends a probe, it is no error
    pass


def _tensorrt(bundle: Bundle | None, options: EngineOptions) -> str:
    return _compiled("tensorrt", "tensorrt", "tensorrt")


def _tensorrt_rtx(bundle: Bundle | None, options: EngineOptions) -> str:
    return _compiled("tensorrt_rtx", "tensorrt_rtx", "tensorrt-rtx")


def _compiled(name: BackendName, module: str, extra: str) -> str:
    _require(module, extra)
    _require("pycuda", extra)
    gpu = find_gpu()
    return f"{gpu.name}, compute capability {gpu.compute_capability}"


def _torch(bundle: Bundle | None, options: EngineOptions) -> str:
    _require("torch", "torch")
    _require("onnx", "torch")
    if options.precision == "int8":
        raise _Unusable("torch serves fp32, fp16 and bf16, not int8.")
    gpu = find_gpu()
    return f"{gpu.name}, compute capability {gpu.compute_capability}"


def _onnxruntime(bundle: Bundle | None, options: EngineOptions) -> str:
    if options.precision in ("fp16", "bf16"):
        raise _Unusable(f"ONNX Runtime on the CPU serves fp32 and int8, not {options.precision}.")
    return "CPU"


def _require(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise _Unusable(f"{module} is not installed: pip install 'her2d[{extra}]'.")


_PROBES: dict[BackendName, Callable[[Bundle | None, EngineOptions], str]] = {
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
}
