"""One contender at one batch size: its turns, taken beside the others', and what comes of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from her2d.inference.engine import Engine, Tiles
from tools.benchmark.configurations import Contender
from tools.benchmark.peak import Product
from tools.benchmark.pipeline_run import PipelineRun
from tools.benchmark.report import Rate, Row, Spread

_WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class Readings:
    """What the device gave at one moment.

    Attributes:
        flops_per_s: of the matrix product; None where it cannot run.
        segmented_per_s, classified_per_s: tiles a second of each engine alone.
    """

    flops_per_s: float | None
    segmented_per_s: float
    classified_per_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A run of the pipeline between two readings, which stand for it as their mean."""

    before: Readings
    after: Readings
    pipeline: PipelineRun

    @property
    def flops_per_s(self) -> float | None:
        before, after = self.before.flops_per_s, self.after.flops_per_s
        return None if before is None or after is None else (before + after) / 2

    @property
    def segmented_per_s(self) -> float:
        return (self.before.segmented_per_s + self.after.segmented_per_s) / 2

    @property
    def classified_per_s(self) -> float:
        return (self.before.classified_per_s + self.after.classified_per_s) / 2

    @property
    def scored_per_s(self) -> float:
        """Tissue tiles a second through the pipeline."""
        return self.pipeline.tissue / self.pipeline.seconds

    @property
    def engines_per_s(self) -> float:
        """Tissue tiles a second, had the engines alone worked off the pipeline's tiles."""
        run = self.pipeline
        seconds = run.tissue / self.segmented_per_s + run.tumor / self.classified_per_s
        return run.tissue / seconds


class Entrant:
    """A contender with its engine open.

    Args:
        tiles: one full batch.
        reading_s: what a reading takes at least, seconds.
        score: runs the pipeline on its engine, given the tiles a second that it segments.

    Attributes:
        turns: what it has done so far.
    """

    def __init__(
        self,
        contender: Contender,
        engine: Engine,
        tiles: Tiles,
        product: Product,
        reading_s: float,
        score: Callable[[float], PipelineRun],
    ) -> None:
        self.contender = contender
        self.engine = engine
        self.turns: list[Turn] = []
        self._tiles = tiles
        self._product = product
        self._reading_s = reading_s
        self._score = score

    def warm_up(self) -> None:
        """Let it allocate and capture what it will. Raises EngineError."""
        for _ in range(_WARM_UPS):
            self.engine.segment(self._tiles)
            self.engine.classify(self._tiles)

    def take_turn(self) -> None:
        """Read every figure once. Raises EngineError, SlideError."""
        before = self._readings()
        pipeline = self._score(before.segmented_per_s)
        self.turns.append(Turn(before, self._readings(), pipeline))

    def row(self, first: "Entrant", flops: dict[str, int] | None) -> Row:
        """What its turns come to.

        Args:
            first: of the same batch size, with as many turns.
            flops: of one tile, by part; None where they are not known.
        """
        turns = self.turns
        firsts = zip(turns, first.turns, strict=True)
        last = turns[-1].pipeline
        busy = [t.pipeline.utilisation for t in turns if t.pipeline.utilisation is not None]
        return Row(
            name=self.contender.name,
            recorded=self.engine.backend,
            device=self.contender.device,
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
            times_first=Spread.of([mine.scored_per_s / its.scored_per_s for mine, its in firsts]),
            pipeline_of_engines=Spread.of([t.scored_per_s / t.engines_per_s for t in turns]),
            stages={
                name: float(np.median([t.pipeline.stages[name] for t in turns]))
                for name in last.stages
            },
            utilisation=float(np.median(busy)) if busy else None,
        )

    def _rate(
        self,
        tiles_per_s: Callable[[Turn], float],
        flops: dict[str, int] | None,
        flops_of_tile: Callable[[dict[str, int], Turn], float],
    ) -> Rate:
        shares = [
            tiles_per_s(turn) * flops_of_tile(flops, turn) / turn.flops_per_s
            for turn in self.turns
            if flops is not None and turn.flops_per_s is not None
        ]
        rates = Spread.of([tiles_per_s(turn) for turn in self.turns])
        return Rate(rates, Spread.of(shares) if shares else None)

    def _readings(self) -> Readings:
        product = self._product.flops_per_s
        return Readings(
            None if product is None else product(),
            self._tiles_per_s(self.engine.segment),
            self._tiles_per_s(self.engine.classify),
        )

    def _tiles_per_s(self, run: Callable[[Tiles], object]) -> float:
        calls, seconds, started = 0, 0.0, time.perf_counter()
        while calls == 0 or seconds < self._reading_s:
            run(self._tiles)
            calls += 1
            seconds = time.perf_counter() - started
        return calls * len(self._tiles) / seconds
