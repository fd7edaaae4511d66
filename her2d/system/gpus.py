"""What the machine's NVIDIA GPUs do, by NVML (https://docs.nvidia.com/deploy/nvml-api/)."""

from dataclasses import dataclass

import pynvml
import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment, whoever uses it.

    Attributes:
        number: NVML's index, which follows the bus and never CUDA_VISIBLE_DEVICES.
        busy_ratio: share of the last sample period in which a kernel ran, 0 to 1; None where the
            driver does not say, as of a GPU that is cut up (MIG).
    """

    number: int
    memory_used_bytes: int
    memory_size_bytes: int
    busy_ratio: float | None


class Gpus:
    """Every GPU that this process may see: none without a driver, or in a sandbox without devices.

    Asks the driver only, never CUDA: no memory is taken on a GPU, and a lost one does no harm.
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
        """Look at each; one that does not answer is left out, and said so once."""
        readings = []
        troubles = []
        for number, device in enumerate(self._devices):
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(device)
                busy = _busy_ratio(device)
            except pynvml.NVMLError as error:
                troubles.append(f"GPU {number}: {error}")
            else:
                readings.append(GpuReading(number, int(memory.used), int(memory.total), busy))
        if troubles and not self._silent:
            log.warning("gpu_unreadable", reason="; ".join(troubles))
        self._silent = bool(troubles)
        return tuple(readings)


def _busy_ratio(device: object) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu) / 100
    except pynvml.NVMLError_NotSupported:
        return None
