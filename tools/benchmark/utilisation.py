"""Measure how busy a device is."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from her2d.system.gpus import Gpus
from tools.benchmark.report import DeviceKind

_SAMPLE_S = 0.1


@dataclass(slots=True)
class Utilisation:
    """How busy a device was.

    Attributes:
        share: share of the time in which it was busy; set when the measurement ends, None if
            unknown.
    """

    share: float | None = None


@contextmanager
def watched(device: DeviceKind) -> Iterator[Utilisation]:
    """Measure the device's utilisation while the block runs.

    For the CPU it is this process's time on all cores that it may use. For CUDA it is that of the
    busiest GPU, as the driver samples it, including other processes.
    """
    found = Utilisation()
    with _watched_gpus(found) if device == "cuda" else _watched_cpu(found):
        yield found


@contextmanager
def _watched_cpu(found: Utilisation) -> Iterator[None]:
    started, worked = time.perf_counter(), time.process_time()
    yield
    seconds = (time.perf_counter() - started) * len(os.sched_getaffinity(0))
    found.share = (time.process_time() - worked) / seconds


@contextmanager
def _watched_gpus(found: Utilisation) -> Iterator[None]:
    gpus, over = Gpus(), threading.Event()
    samples: dict[int, list[float]] = {}

    def watch() -> None:
        while True:
            for reading in gpus.read():
                if reading.busy_ratio is not None:
                    samples.setdefault(reading.number, []).append(reading.busy_ratio)
            if over.wait(_SAMPLE_S):
                return

    thread = threading.Thread(target=watch, name="her2d-gpus", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if samples:
        found.share = max(sum(each) / len(each) for each in samples.values())
