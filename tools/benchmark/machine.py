"""Describe the machine of a benchmark."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from her2d.inference.cuda_driver import NoGpuError, find_gpu
from tools.benchmark.report import Machine

_LIBRARIES = ("onnxruntime", "openvino", "torch", "tensorrt", "tensorrt-rtx-cu12", "pycuda")


def this_machine() -> Machine:
    """Describe this machine and its present load."""
    try:
        found = find_gpu()
        gpu = f"{found.name}, compute capability {found.compute_capability}"
    except NoGpuError:
        gpu = None
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0))
    return Machine(_processor(), cores, os.getloadavg()[0], gpu, versions)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
