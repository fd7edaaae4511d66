"""Readings of GPUs, with a double of the functions of NVML."""

import pynvml
import pytest
from captured_logs import capture_logs
from nvml import pynvml as double

from her2d.system.gpus import GpuReading, Gpus

_CALLS = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "NVMLError",
    "NVMLError_NotSupported",
)


@pytest.fixture
def gpu_doubles(monkeypatch):
    """Replace functions of nvidia-ml-py, which must exist, by those of two simulated GPUs."""
    for name in _CALLS:
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, getattr(double, name))
    return monkeypatch


def test_memory_and_use_of_every_gpu_are_read(gpu_doubles):
    first, cut_up = Gpus().read()
    assert first == GpuReading(0, double.GIB, 24 * double.GIB, 0.35)
    assert cut_up == GpuReading(1, 2 * double.GIB, 24 * double.GIB, None)


def test_without_a_driver_no_gpu_is_reported(monkeypatch):
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert Gpus().read() == ()


def test_a_lost_gpu_is_logged_once_and_the_others_are_still_read(gpu_doubles):
    gpus = Gpus()

    def lost(device: int):
        if device == 0:
            raise double.NVMLError("GPU is lost")
        return double.nvmlDeviceGetMemoryInfo(device)

    gpu_doubles.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    with capture_logs() as logs:
        assert [reading.number for reading in gpus.read()] == [1]
        assert [reading.number for reading in gpus.read()] == [1]
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("gpu_unreadable", "GPU 0: GPU is lost")
    ]
