"""The measurement of one configuration at one batch size."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from her2d.inference.engine import Engine, Tiles
from her2d.pipeline.bottleneck import STAGES
from tools.benchmark.configurations import Configuration
from tools.benchmark.peak import Product
from tools.benchmark.pipeline_run import PipelineRun
from tools.benchmark.report import Rate, Row, Spread

_WARM_UPS = 2
_FIRST_SLIDES = 2


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one network alone is.

    Attributes:
        tiles_per_s: tiles per second.
        cpu_s: processor time for one tile, of all threads.
    """

    tiles_per_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Readings:
    """Speeds at one moment.

    Attributes:
        flops_per_s: rate of the matrix product; None if it cannot run.
        segmenter, classifiers: each network alone.
    """

    flops_per_s: float | None
    segmenter: Speed
    classifiers: Speed


@dataclass(frozen=True, slots=True)
class Repeat:
    """A run of the pipeline between two readings, whose mean is compared with it."""

    before: Readings
    after: Readings
    pipeline: PipelineRun

    @property
    def flops_per_s(self) -> float | None:
        before, after = self.before.flops_per_s, self.after.flops_per_s
        return None if before is None or after is None else (before + after) / 2

    @property
    def segmented_per_s(self) -> float:
        return (self.before.segmenter.tiles_per_s + self.after.segmenter.tiles_per_s) / 2

    @property
    def classified_per_s(self) -> float:
        return (self.before.classifiers.tiles_per_s + self.after.classifiers.tiles_per_s) / 2

    @property
    def scored_per_s(self) -> float:
        """Tissue tiles per second through the pipeline."""
        return self.pipeline.tissue / self.pipeline.seconds

    @property
    def engines_per_s(self) -> float:
        """Tissue tiles per second if the networks alone, in turn, ran the pipeline's tiles."""
        run = self.pipeline
        seconds = run.tissue / self.segmented_per_s + run.tumor / self.classified_per_s
        return run.tissue / seconds

    @property
    def share_of_time(self) -> float:
        """The pipeline's rate divided by that of the networks alone."""
        return self.scored_per_s / self.engines_per_s

    @property
    def share_of_cpu(self) -> float:
        """Processor time of the networks alone for the same tiles, divided by the pipeline's."""
        readings, run = (self.before, self.after), self.pipeline
        segmenter = sum(each.segmenter.cpu_s for each in readings) / len(readings)
        classifiers = sum(each.classifiers.cpu_s for each in readings) / len(readings)
        return (run.tissue * segmenter + run.tumor * classifiers) / run.cpu_s


class Measurement:
    """A configuration with its engine open, and the repeats measured so far.

    Args:
        configuration: what is measured.
        engine: its engine.
        tiles: one full batch, uint8 (N, 512, 512, 3).
        product: the matrix product whose rate is the peak.
        reading_s: least seconds of a reading.
        score: runs the pipeline on the engine over so many slides.
        pipeline_s: approximate seconds of each run of the pipeline.

    Attributes:
        repeats: the results so far.
    """

    def __init__(
        self,
        configuration: Configuration,
        engine: Engine,
        tiles: Tiles,
        product: Product,
        reading_s: float,
        score: Callable[[int], PipelineRun],
        pipeline_s: float,
    ) -> None:
        self.configuration = configuration
        self.engine = engine
        self.repeats: list[Repeat] = []
        self._tiles = tiles
        self._product = product
        self._reading_s = reading_s
        self._score = score
        self._pipeline_s = pipeline_s
        self._slides = 1

    def warm_up(self) -> None:
        """Run networks and pipeline until memory is allocated, and see how long one slide takes.

        Raises:
            EngineError: the engine failed.
            SlideError: the slide cannot be read.
        """
        for _ in range(_WARM_UPS):
            self.engine.segment(self._tiles)
            self.engine.classify(self._tiles)
        first = self._score(_FIRST_SLIDES)
        self._slides = max(1, round(self._pipeline_s * _FIRST_SLIDES / first.seconds))

    def measure_once(self) -> None:
        """Measure every figure once. Raises EngineError, SlideError."""
        before = self._readings()
        pipeline = self._score(self._slides)
        self.repeats.append(Repeat(before, self._readings(), pipeline))

    def row(self, first: "Measurement", flops: dict[str, int] | None) -> Row:
        """Summarise the repeats.

        Args:
            first: the measurement to compare with, of the same batch size and number of repeats.
            flops: operations for one tile, by part; None if unknown.
        """
        repeats = self.repeats
        pairs = zip(repeats, first.repeats, strict=True)
        # On a GPU the processor's time says nothing about the networks.
        on_gpu = self.configuration.device == "cuda"
        bottlenecks = [repeat.pipeline.bottleneck for repeat in repeats]
        busy = [t.pipeline.utilisation for t in repeats if t.pipeline.utilisation is not None]
        return Row(
            name=self.configuration.name,
            recorded=self.engine.backend,
            device=self.configuration.device,
            batch=len(self._tiles),
            segmenter=self._rate(lambda t: t.segmented_per_s, flops, lambda f, _: f["segmenter"]),
            classifiers=self._rate(
                lambda t: t.classified_per_s, flops, lambda f, _: f["classifiers"]
            ),
            pipeline=self._rate(
                lambda t: t.scored_per_s,
                flops,
                lambda f, t: (
                    f["segmenter"] + f["classifiers"] * t.pipeline.tumor / t.pipeline.tissue
                ),
            ),
            times_first=Spread.of([mine.scored_per_s / its.scored_per_s for mine, its in pairs]),
            pipeline_of_engines=Spread.of(
                [t.share_of_time if on_gpu else t.share_of_cpu for t in repeats]
            ),
            bottleneck=Counter(one.stage for one in bottlenecks).most_common(1)[0][0],
            stages={
                name: float(np.median([one.busy[name] for one in bottlenecks])) for name in STAGES
            },
            utilisation=float(np.median(busy)) if busy else None,
        )

    def _rate(
        self,
        tiles_per_s: Callable[[Repeat], float],
        flops: dict[str, int] | None,
        flops_of_tile: Callable[[dict[str, int], Repeat], float],
    ) -> Rate:
        shares = [
            tiles_per_s(repeat) * flops_of_tile(flops, repeat) / repeat.flops_per_s
            for repeat in self.repeats
            if flops is not None and repeat.flops_per_s is not None
        ]
        rates = Spread.of([tiles_per_s(repeat) for repeat in self.repeats])
        return Rate(rates, Spread.of(shares) if shares else None)

    def _readings(self) -> Readings:
        product = self._product.flops_per_s
        return Readings(
            None if product is None else product(),
            self._speed(self.engine.segment),
            self._speed(self.engine.classify),
        )

    def _speed(self, run: Callable[[Tiles], object]) -> Speed:
        calls, seconds, started, worked = 0, 0.0, time.perf_counter(), time.process_time()
        while calls == 0 or seconds < self._reading_s:
            run(self._tiles)
            calls += 1
            seconds = time.perf_counter() - started
        tiles = calls * len(self._tiles)
        return Speed(tiles / seconds, (time.process_time() - worked) / tiles)
