"""The CUDA driver, called directly: which device there is, and a thread's current context.

So a machine without a GPU is recognised without importing torch or PyCUDA.
"""

import ctypes
from dataclasses import dataclass

from her2d.errors import Her2dError

_LIBRARY = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


class NoGpuError(Her2dError):
    """There is no usable CUDA device; `str(error)` gives the reason in one sentence."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: product name, such as `NVIDIA RTX A6000`.
        compute_capability: such as `8.6`.
        driver_version: newest CUDA version that the driver supports, such as `13.0`.
    """

    name: str
    compute_capability: str
    driver_version: str


def find_gpu() -> Gpu:
    """Find the first CUDA device in the driver's order, which CUDA_VISIBLE_DEVICES changes.

    Raises:
        NoGpuError: no driver, no device, or the driver refuses to start.
    """
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NoGpuError(f"There is no NVIDIA driver: {_LIBRARY} cannot be loaded.") from error
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _require_success(driver.cuInit(0), "start")
    _require_success(driver.cuDeviceGetCount(ctypes.byref(count)), "count its devices")
    if count.value == 0:
        raise NoGpuError("The NVIDIA driver finds no device.")
    _require_success(driver.cuDeviceGet(ctypes.byref(device), 0), "open its first device")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _require_success(driver.cuDeviceGetName(name, _NAME_BYTES, device), "name its first device")
    _require_success(driver.cuDriverGetVersion(ctypes.byref(version)), "report its version")
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        found = ctypes.c_int()
        status = driver.cuDeviceGetAttribute(ctypes.byref(found), attribute, device)
        _require_success(status, "describe its first device")
        capability.append(str(found.value))
    return Gpu(
        name.value.decode(errors="replace"),
        ".".join(capability),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def leave_context() -> None:
    """Remove the current context from the calling thread's stack."""
    ctypes.CDLL(_LIBRARY).cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _require_success(status: int, what: str) -> None:
    if status != 0:
        raise NoGpuError(f"The NVIDIA driver cannot {what}: CUDA error {status}.")
