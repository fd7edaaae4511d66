"""Find which back ends work on this machine, and why the others do not."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from her2d.bundle.loading import Bundle
from her2d.errors import Her2dError
from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.inference.engine import EngineError
from her2d.inference.options import BACKENDS, BackendName, EngineOptions
from her2d.inference.plan_engine import usable_plan
from her2d.system.extras import installing, is_installed


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whether a back end works on this machine.

    Attributes:
        name: the back end.
        usable: whether `auto` would try to open it.
        reason: the device that it would use, or in one sentence why it cannot be used.
    """

    name: BackendName
    usable: bool
    reason: str


def candidates(bundle: Bundle | None, options: EngineOptions) -> tuple[Candidate, ...]:
    """Examine every back end, best first, without opening any.

    Args:
        bundle: where to look for compiled plans; None does not look for any.
        options: only the precision matters.
    """
    return tuple(candidate(name, bundle, options) for name in BACKENDS)


def candidate(name: BackendName, bundle: Bundle | None, options: EngineOptions) -> Candidate:
    """Examine one back end without opening it; arguments as in `candidates`."""
    try:
        return Candidate(name, True, _PROBES[name](bundle, options))
    except _Unusable as unusable:
        return Candidate(name, False, str(unusable))
    except NoGpuError as error:
        return Candidate(name, False, str(error))


class _Unusable(Her2dError):  # noqa: N818  it ends a probe and is not an error
    pass


def _tensorrt(bundle: Bundle | None, options: EngineOptions) -> str:
    return _compiled("tensorrt", bundle, options)


def _tensorrt_rtx(bundle: Bundle | None, options: EngineOptions) -> str:
    return _compiled("tensorrt_rtx", bundle, options)


def _compiled(name: BackendName, bundle: Bundle | None, options: EngineOptions) -> str:
    extra = name.replace("_", "-")
    _require(name, extra)
    _require("pycuda", extra)
    gpu = find_gpu()
    if bundle is not None:
        _loadable(bundle, name, options)
    return f"{gpu.name}, compute capability {gpu.compute_capability}"


def _loadable(bundle: Bundle, name: BackendName, options: EngineOptions) -> None:
    try:
        usable_plan(bundle, name, options.precision)
    except EngineError as error:
        raise _Unusable(str(error)) from error


def _torch(bundle: Bundle | None, options: EngineOptions) -> str:
    _require("torch", "torch")
    _require("onnx", "torch")
    if options.precision == "int8":
        raise _Unusable("torch supports fp32, fp16 and bf16, not int8.")
    gpu = find_gpu()
    # Importing torch takes seconds. If its build is unknown, opening the engine shows it.
    with suppress(PackageNotFoundError):
        if (installed := version("torch")).endswith("+cpu"):
            raise _Unusable(f"torch {installed} was built without CUDA.")
    return f"{gpu.name}, compute capability {gpu.compute_capability}"


def _openvino(bundle: Bundle | None, options: EngineOptions) -> str:
    _require("openvino", "openvino")
    if options.precision == "fp16":
        raise _Unusable("OpenVINO on the CPU supports fp32, bf16 and int8, not fp16.")
    if bundle is not None:
        _loadable(bundle, "openvino", options)
    return "CPU"


def _onnxruntime(bundle: Bundle | None, options: EngineOptions) -> str:
    if options.precision in ("fp16", "bf16"):
        raise _Unusable(f"ONNX Runtime on the CPU supports fp32 and int8, not {options.precision}.")
    if options.precision == "int8" and bundle is not None:
        _loadable(bundle, "onnxruntime", options)
    return "CPU"


def _require(module: str, extra: str) -> None:
    if not is_installed(module):
        raise _Unusable(f"{module} is not installed; install it with: {installing(extra)}")


_PROBES: dict[BackendName, Callable[[Bundle | None, EngineOptions], str]] = {
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
    "torch": _torch,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
