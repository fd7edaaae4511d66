"""Read memory and use of the NVIDIA GPUs by NVML (https://docs.nvidia.com/deploy/nvml-api/)."""

from dataclasses import dataclass

import pynvml

from her2d.system.loggers import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment, for all processes that use it.

    Attributes:
        number: NVML's index, by position on the bus. CUDA_VISIBLE_DEVICES does not change it.
        busy_ratio: share of the last sample period in which a kernel ran, 0 to 1; None where the
            driver does not report it, as for a GPU that is divided into instances (MIG).
    """

    number: int
    memory_used_bytes: int
    memory_size_bytes: int
    busy_ratio: float | None


class Gpus:
    """All GPUs that this process can see; none without a driver or in a sandbox without devices.

    Uses the driver and not CUDA, so it takes no GPU memory and works after a GPU was lost.
    """

    def __init__(self) -> None:
        self._silent = False
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
        except pynvml.NVMLError as error:
            log.debug("no_gpu_seen", reason=str(error))
            self._devices = []

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading for each GPU; one that fails is left out and logged once."""
        readings = []
        problems = []
        for number, device in enumerate(self._devices):
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(device)
                busy = _busy_ratio(device)
            except pynvml.NVMLError as error:
                problems.append(f"GPU {number}: {error}")
            else:
                readings.append(GpuReading(number, int(memory.used), int(memory.total), busy))
        if problems and not self._silent:
            log.warning("gpu_unreadable", reason="; ".join(problems))
        self._silent = bool(problems)
        return tuple(readings)


def _busy_ratio(device: object) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu) / 100
    except pynvml.NVMLError_NotSupported:
        return None
