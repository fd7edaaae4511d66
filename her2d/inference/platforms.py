"""Find the library and the device for compiling and loading plans on this machine."""

from importlib import import_module
from typing import Any

import onnxruntime

from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.plans import NO_GPU, Platform


def library_of(backend: BackendName) -> Any:
    """Import the TensorRT module of a back end. Raises EngineError if it is not installed."""
    try:
        return import_module(backend)
    except ImportError as error:
        extra = backend.replace("_", "-")
        raise EngineError(
            f"{backend} is not installed: pip install 'her2d[{extra}]' ({error})."
        ) from error


def platform_of(backend: BackendName) -> Platform:
    """Find the platform of `backend`. Without a GPU only onnxruntime and tensorrt_rtx have one.

    Raises:
        EngineError: the library is not installed, or tensorrt finds no GPU.
    """
    if backend == "onnxruntime":
        return Platform(onnxruntime.__version__, NO_GPU, NO_GPU)
    version = str(library_of(backend).__version__)
    try:
        gpu = find_gpu()
    except NoGpuError as error:
        if backend == "tensorrt":
            raise EngineError(
                f"tensorrt can compile only on the GPU that will run the plan. {error}"
            ) from error
        return Platform(version, NO_GPU, NO_GPU)
    return Platform(version, gpu.name, gpu.compute_capability)
