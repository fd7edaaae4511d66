"""Stands for NVIDIA's NVML on a machine without a GPU: one card, and one cut up by MIG.

Its folder is put on the path in nvidia-ml-py's place; names and errors are that library's.
"""

from types import SimpleNamespace

GIB = 2**30


class NVMLError(Exception):
    """What every call raises where the driver cannot answer."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818  the library's name
    """The card does not know this figure."""


def nvmlInit() -> None:
    """Finds a driver."""


def nvmlDeviceGetCount() -> int:
    return 2


def nvmlDeviceGetHandleByIndex(number: int) -> int:
    return number


def nvmlDeviceGetMemoryInfo(device: int) -> SimpleNamespace:
    return SimpleNamespace(used=(device + 1) * GIB, total=24 * GIB)


def nvmlDeviceGetUtilizationRates(device: int) -> SimpleNamespace:
    if device == 1:
        raise NVMLError_NotSupported("Not Supported")
    return SimpleNamespace(gpu=35)
