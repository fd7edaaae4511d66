"""The report of a benchmark: plain values, so that `dataclasses.asdict` gives its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DeviceKind = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and the range of one figure over the repeats of a run."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise at least one value."""
        return cls(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of tiles.

    Attributes:
        tiles_per_s: absolute, so it is reliable only on an idle machine.
        of_peak: arithmetic per second as a share of the peak in the same repeat; None if the peak
            could not be measured.
    """

    tiles_per_s: Spread
    of_peak: Spread | None


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration at one batch size.

    Attributes:
        name: of the configuration.
        recorded: what a result's `backend` would be.
        device, batch: device and batch size in tiles.
        segmenter, classifiers: each network alone, from host memory to host memory.
        pipeline: tissue tiles from files on disk to scores, decoding included.
        times_first: the pipeline's rate divided by that of the first row of this batch size.
        pipeline_of_engines: how much of the pipeline is the two networks. On a CPU, their processor
            time alone on the same tissue and tumour tiles, divided by that of the pipeline. On a
            GPU, the pipeline's rate divided by that of the two networks alone, one after the other.
        bottleneck: what limited the pipeline in most repeats, one of
            `her2d.pipeline.bottleneck.BOTTLENECKS`.
        stages: share of the pipeline's time in which each part of it worked.
        utilisation: share of the pipeline's time in which the device was busy. For CUDA the driver
            reports it (None if it does not); for the CPU it is this process's time on all cores.
    """

    name: str
    recorded: str
    device: DeviceKind
    batch: int
    segmenter: Rate
    classifiers: Rate
    pipeline: Rate
    times_first: Spread
    pipeline_of_engines: Spread
    bottleneck: str
    stages: dict[str, float]
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A configuration that was not measured at a batch size, and why."""

    name: str
    batch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Peak:
    """The peak rate of a device, which no engine can exceed (the roof of a roofline).

    Attributes:
        device: where it was measured.
        product: the matrix product that was measured, such as `2048 x 2048, fp32`.
        flops_per_s: multiplications and additions per second; None if it could not run.
        reason: why it could not run, or "".
    """

    device: DeviceKind
    product: str
    flops_per_s: Spread | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """The rate of decoding alone.

    Attributes:
        tiles_per_s: all tiles, including background.
    """

    tiles_per_s: Spread


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a benchmark.

    Attributes:
        processor: model name.
        cores: number of cores that this process may use.
        load: one-minute load average before the benchmark began.
        gpu: name and compute capability, or None.
        versions: of Python and of each library installed, by name.
    """

    processor: str
    cores: int
    load: float
    gpu: str | None
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole benchmark.

    Attributes:
        bundle: its name and version.
        machine: where it ran.
        measured_at: ISO 8601 time in UTC.
        software_version: of her2d.
        slide: description of the slide.
        tissue_tiles, tumor_tiles: numbers of the slide's tiles, by the first configuration.
        repeats: how often every figure was measured.
        flops: operations for one tile, by part; None if `onnx`, which counts them, is missing.
        peaks: peak rate of each device.
        decoding: rate of decoding alone.
        rows: one for each configuration and batch size that was measured.
        skipped: those that were not measured.
    """

    bundle: str
    machine: Machine
    measured_at: str
    software_version: str
    slide: str
    tissue_tiles: int
    tumor_tiles: int
    repeats: int
    flops: dict[str, int] | None
    peaks: tuple[Peak, ...]
    decoding: Decoding
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
