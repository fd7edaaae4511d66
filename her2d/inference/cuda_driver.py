"""CUDA's driver itself: which devices there are, and which context is a thread's own.

Neither torch nor PyCUDA is imported to learn that there is nothing for them to use.
"""

import ctypes
from dataclasses import dataclass

from her2d.errors import Her2dError

_LIBRARY = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


class NoGpuError(Her2dError):
    """There is no usable CUDA device; `str(error)` says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: the product, such as `NVIDIA RTX A6000`.
        compute_capability: such as `8.6`.
        driver_version: the newest CUDA that the driver runs, such as `13.0`.
    """

    name: str
    compute_capability: str
    driver_version: str


def find_gpu() -> Gpu:
    """The first CUDA device, in the driver's own order (CUDA_VISIBLE_DEVICES counts).

    Raises:
        NoGpuError: no driver, no device, or the driver refuses to start.
    """
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NoGpuError(f"There is no NVIDIA driver: {_LIBRARY} cannot be loaded.") from error
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _ask(driver.cuInit(0), "start")
    _ask(driver.cuDeviceGetCount(ctypes.byref(count)), "count its devices")
    if count.value == 0:
        raise NoGpuError("The NVIDIA driver finds no device.")
    _ask(driver.cuDeviceGet(ctypes.byref(device), 0), "open its first device")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _ask(driver.cuDeviceGetName(name, _NAME_BYTES, device), "name its first device")
    _ask(driver.cuDriverGetVersion(ctypes.byref(version)), "tell its version")
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        found = ctypes.c_int()
        status = driver.cuDeviceGetAttribute(ctypes.byref(found), attribute, device)
        _ask(status, "describe its first device")
        capability.append(str(found.value))
    return Gpu(
        name.value.decode(errors="replace"),
        ".".join(capability),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def leave_context() -> None:
    """Take the calling thread's current context off its stack."""
    ctypes.CDLL(_LIBRARY).cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _ask(status: int, what: str) -> None:
    if status != 0:
        raise NoGpuError(f"The NVIDIA driver cannot {what}: CUDA error {status}.")
