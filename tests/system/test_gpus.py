"""What is asked of the driver, with NVML's functions in the place of a card."""

import pynvml
import pytest
from nvml import pynvml as double
from structlog.testing import capture_logs

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
def cards(monkeypatch):
    """Two cards behind nvidia-ml-py's own names, which therefore exist."""
    for name in _CALLS:
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, getattr(double, name))
    return monkeypatch


def test_memory_and_use_of_every_card_are_read(cards):
    first, cut_up = Gpus().read()
    assert first == GpuReading(0, double.GIB, 24 * double.GIB, 0.35)
    assert cut_up == GpuReading(1, 2 * double.GIB, 24 * double.GIB, None)


def test_without_a_driver_there_are_none(monkeypatch):
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert Gpus().read() == ()


def test_a_card_that_falls_off_the_bus_is_said_once_and_hides_no_other(cards):
    gpus = Gpus()

    def lost(device: int):
        if device == 0:
            raise double.NVMLError("GPU is lost")
        return double.nvmlDeviceGetMemoryInfo(device)

    cards.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    with capture_logs() as logs:
        assert [reading.number for reading in gpus.read()] == [1]
        assert [reading.number for reading in gpus.read()] == [1]
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("gpu_unreadable", "GPU 0: GPU is lost")
    ]
