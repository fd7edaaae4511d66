"""Measure every configuration at every batch size.

Each repeat measures all configurations of one batch size in turn, so that other load on the machine
affects them all. Shares and ratios are calculated within a repeat; the report gives their median.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from her2d import __version__, open_slide
from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.inference.engine import DeviceLostError, Engine, EngineError, Tiles
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.saturation import mean_saturation
from her2d.slides.grid import Tile
from tools.benchmark.configurations import CONFIGURATIONS, Configuration, opened
from tools.benchmark.machine import this_machine
from tools.benchmark.measurement import Measurement
from tools.benchmark.peak import product_on
from tools.benchmark.pipeline_run import PipelineRun, run_pipeline
from tools.benchmark.report import Decoding, DeviceKind, Peak, Report, Row, Skipped, Spread

_DEVICES: tuple[DeviceKind, ...] = ("cuda", "cpu")

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (description of the present step, repeats done, number of repeats)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The bundle and the slide of a benchmark.

    Attributes:
        bundle: a verified bundle.
        rules: the bundle's rules for the pipeline.
        slide: a readable slide with tissue.
        slide_name: the slide's description in the report.
    """

    bundle: Bundle
    rules: PipelineRules
    slide: Path
    slide_name: str


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        batches: batch sizes in tiles, for both networks; at least one.
        repeats: how often every figure is measured, at least 1.
        reading_s: least seconds of an engine's reading, because one batch may be too short to time.
        pipeline_s: approximate seconds of each run of the pipeline, of at least one slide.
        limits: the pipeline's; its batches are replaced, and its queue holds at least two of them.
        threads: number of threads of engines on the CPU; 0 is one for each core.
    """

    batches: tuple[int, ...]
    repeats: int
    reading_s: float
    pipeline_s: float
    limits: Limits
    threads: int


def measure(
    subject: Subject,
    options: Options,
    progress: Progress = lambda *_: None,
    configurations: tuple[Configuration, ...] = CONFIGURATIONS,
) -> Report:
    """Measure every configuration that runs here.

    Args:
        subject: what to measure.
        options: how to measure it.
        progress: called before each step.
        configurations: what to try.

    Raises:
        SlideError: the slide cannot be read.
        DeviceLostError: the device is lost.
        EngineError: the slide contains no tissue, or no configuration runs.
    """
    machine = this_machine()
    benchmark = _Benchmark(subject, options, progress, configurations)
    for batch in options.batches:
        benchmark.run(batch)
    if not benchmark.rows:
        # Most have the same reason at every batch size.
        reasons = " ".join(dict.fromkeys(f"{s.name}: {s.reason}" for s in benchmark.skipped))
        raise EngineError(f"No back end works here. {reasons}")
    return Report(
        bundle=f"{subject.bundle.manifest.name} {subject.bundle.manifest.version}",
        machine=machine,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=__version__,
        slide=subject.slide_name,
        tissue_tiles=len(benchmark.tissue),
        tumor_tiles=benchmark.tumor_tiles,
        repeats=options.repeats,
        flops=benchmark.flops,
        peaks=benchmark.peaks(),
        decoding=Decoding(Spread.of(benchmark.decoded_per_s)),
        rows=tuple(benchmark.rows),
        skipped=tuple(benchmark.skipped),
    )


@dataclass
class _Benchmark:
    """Measures one batch size after another and keeps the results."""

    subject: Subject
    options: Options
    progress: Progress
    configurations: tuple[Configuration, ...]
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    decoded_per_s: list[float] = field(default_factory=list)
    tumor_tiles: int = 0

    def __post_init__(self) -> None:
        bundle = self.subject.bundle
        self.tissue = _tissue(self.subject)
        self.flops = _flops(bundle)
        self._integrator = Integrator(bundle)
        self._products = {device: product_on(device) for device in _DEVICES}
        self._flops_per_s: dict[DeviceKind, list[float]] = {device: [] for device in _DEVICES}

    def run(self, batch: int) -> None:
        """Measure every configuration that runs batches of `batch` tiles."""
        with ExitStack() as engines:
            measurements = self._measurements(batch, engines)
            for repeat in range(self.options.repeats):
                self.decoded_per_s.append(self._decode())
                for measurement in list(measurements):
                    self.progress(
                        f"batch {batch}, {measurement.configuration.name}",
                        repeat,
                        self.options.repeats,
                    )
                    if not self._ran(measurement.measure_once, measurement.configuration, batch):
                        measurements.remove(measurement)
            self.rows += [
                measurement.row(measurements[0], self.flops) for measurement in measurements
            ]
        for measurement in measurements:
            readings = [
                repeat.flops_per_s
                for repeat in measurement.repeats
                if repeat.flops_per_s is not None
            ]
            self._flops_per_s[measurement.configuration.device] += readings
        if measurements:
            run = measurements[0].repeats[0].pipeline
            self.tumor_tiles = round(len(self.tissue) * run.tumor / run.tissue)

    def peaks(self) -> tuple[Peak, ...]:
        """Summarise the rates of the matrix products over all batch sizes."""
        return tuple(
            Peak(device, product.name, Spread.of(found) if found else None, product.reason)
            for device, product in self._products.items()
            for found in (self._flops_per_s[device],)
        )

    def _measurements(self, batch: int, engines: ExitStack) -> list[Measurement]:
        options = self.options
        limits = replace(
            options.limits,
            segmenter_batch=batch,
            classifier_batch=batch,
            queue_tiles=max(options.limits.queue_tiles, 2 * batch),
        )
        tiles = self.tissue[np.arange(batch) % len(self.tissue)]
        measurements: list[Measurement] = []
        for configuration in self.configurations:
            self.progress(f"batch {batch}, opening {configuration.name}", 0, options.repeats)

            def open_one(configuration: Configuration = configuration) -> None:
                engine = opened(configuration, self.subject.bundle, limits, options.threads)
                engines.callback(engine.close)
                score = partial(self._score, engine, limits, configuration.device)
                product = self._products[configuration.device]
                measurement = Measurement(
                    configuration,
                    engine,
                    tiles,
                    product,
                    options.reading_s,
                    score,
                    options.pipeline_s,
                )
                measurement.warm_up()
                measurements.append(measurement)

            self._ran(open_one, configuration, batch)
        return measurements

    def _ran(self, step: Callable[[], None], configuration: Configuration, batch: int) -> bool:
        """Run `step` and return whether the engine succeeded; record the reason if it failed."""
        try:
            step()
        except DeviceLostError:
            raise
        except EngineError as error:
            self.skipped.append(Skipped(configuration.name, batch, str(error)))
            return False
        return True

    def _score(
        self, engine: Engine, limits: Limits, device: DeviceKind, slides: int
    ) -> PipelineRun:
        return run_pipeline(
            engine,
            self._integrator,
            self.subject.rules,
            limits,
            self.subject.slide,
            slides,
            device,
        )

    def _decode(self) -> float:
        started = time.perf_counter()
        with open_slide(self.subject.slide) as slide:
            tiles = sum(1 for _ in slide.tiles(workers=self.options.limits.decode_workers))
        return tiles / (time.perf_counter() - started)


def _tissue(subject: Subject) -> Tiles:
    with open_slide(subject.slide) as slide:
        tissue = [
            tile.pixels
            for tile in slide.tiles()
            if isinstance(tile, Tile) and mean_saturation(tile.pixels) > subject.rules.saturation
        ]
    if not tissue:
        raise EngineError(f"{subject.slide} contains no tissue to measure on.")
    return np.stack(tissue)


def _flops(bundle: Bundle) -> dict[str, int] | None:
    try:
        # onnx comes with the extras, not with the base install.
        from tools.benchmark.flops import flops_of
    except ImportError:
        return None
    parts = {"segmenter": bundle.segmenter, "classifiers": bundle.classifiers}
    return {part: flops_of(path) for part, path in parts.items()}
