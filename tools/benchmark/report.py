"""What a benchmark finds. Plain values throughout, so that `dataclasses.asdict` is its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DeviceKind = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the turns of a run: machines are noisy, so its range is told too."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast tiles go through something.

    Attributes:
        tiles_per_s: absolute, and so only as good as the machine was quiet.
        of_floor: share of what a large matrix product reaches, taken in the same turn; None where
            the floor could not be measured.
    """

    tiles_per_s: Spread
    of_floor: Spread | None


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one batch size.

    Attributes:
        name: of the contender; `recorded` is what a result's `backend` would say.
        segmenter, classifiers: arrays in host memory in, arrays in host memory out.
        pipeline: tissue tiles a second from files on disk to scores, decoding included.
        times_first: the pipeline's rate over that of the first row of this batch size.
        pipeline_of_engines: the pipeline's rate over the rate that its engines alone would have
            reached, one after the other, on the same tissue and tumour tiles. Above one where the
            stages, which overlap, use cores that one engine alone leaves idle.
        stages: share of the pipeline's time that each stage was at work, or waiting for the next.
        utilisation: share of the pipeline's time that the device was busy: for CUDA as the driver
            tells (None where it cannot be asked), for the CPU this process's time on all cores.
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
    stages: dict[str, float]
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A contender that was not measured at a batch size, and why."""

    name: str
    batch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Floor:
    """What no engine can beat.

    Attributes:
        product: the matrix product that was measured, such as `2048 x 2048, fp32`.
        flops_per_s: multiplications and additions it did a second; None where it could not run.
        reason: why not, or "".
    """

    device: DeviceKind
    product: str
    flops_per_s: Spread | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """Reading the slide's tiles and nothing else.

    Attributes:
        tiles_per_s: all tiles, background too.
    """

    tiles_per_s: Spread


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured.

    Attributes:
        cores: that this process may use.
        load: the one-minute load average before it began: what else went on.
    """

    processor: str
    cores: int
    load: float
    gpu: str | None
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        slide: what the pipeline was given.
        tissue_tiles, tumor_tiles: of that slide, as the first contender saw them.
        flops: of one tile, by part; None where `onnx`, which counts them, is not installed.
    """

    bundle: str
    machine: Machine
    measured_at: str
    software_version: str
    slide: str
    tissue_tiles: int
    tumor_tiles: int
    turns: int
    flops: dict[str, int] | None
    floors: tuple[Floor, ...]
    decoding: Decoding
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
