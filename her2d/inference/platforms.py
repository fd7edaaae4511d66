"""Find the library and the device for compiling and loading plans on this machine."""

import sys
from importlib import import_module
from typing import Any

from her2d.inference.cuda_driver import NoGpuError, find_gpu
from her2d.inference.engine import EngineError
from her2d.inference.options import BackendName
from her2d.inference.plans import NO_GPU, Platform
from her2d.system.cpus import processor_kind
from her2d.system.extras import installing
from her2d.system.memory import may_generate_code


def library_of(backend: BackendName) -> Any:
    """Import the module of a back end. Raises EngineError if it is not installed."""
    if backend == "openvino":
        # When OpenVINO is imported, this package sends an event to Google Analytics from a child
        # process and writes an identifier to the home folder. Without it OpenVINO takes a stub.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(backend)
    except ImportError as error:
        extra = backend.replace("_", "-")
        raise EngineError(
            f"{backend} is not installed ({error}); install it with: {installing(extra)}"
        ) from error


def platform_of(backend: BackendName) -> Platform:
    """Find the platform of `backend`. Without a GPU, tensorrt has none.

    Raises:
        EngineError: the library is not installed, tensorrt finds no GPU, or openvino may not
            compile code here.
    """
    if backend == "onnxruntime":
        import onnxruntime

        return Platform(onnxruntime.__version__, NO_GPU, NO_GPU, processor_kind())
    if backend == "openvino":
        library = library_of(backend)
        if not may_generate_code():
            raise EngineError(
                "OpenVINO compiles code when it opens, which this process may not run. If systemd"
                " starts her2d, install the drop-in openvino.conf, which allows it (sudo make"
                " install-openvino), and restart her2d."
            )
        # The unit's sandbox hides /proc/cpuinfo; OpenVINO asks the processor itself.
        processor = str(library.Core().get_property("CPU", "FULL_DEVICE_NAME"))
        return Platform(str(library.__version__), NO_GPU, NO_GPU, processor)
    version = str(library_of(backend).__version__)
    try:
        gpu = find_gpu()
    except NoGpuError as error:
        if backend == "tensorrt":
            raise EngineError(
                f"tensorrt can compile only on the GPU that will run the plan. {error}"
            ) from error
        return Platform(version, NO_GPU, NO_GPU, None)
    return Platform(version, gpu.name, gpu.compute_capability, gpu.name)
