"""A test double of NVIDIA's NVML with two cards, one of them divided by MIG.

Its folder is on the path in place of nvidia-ml-py, whose names and errors it has.
"""

from types import SimpleNamespace

GIB = 2**30


class NVMLError(Exception):
    """Raised by every call if the driver cannot answer."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818  the library's name
    """The card does not report this figure."""


def nvmlInit() -> None:
    """Do nothing, as if there were a driver."""


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
