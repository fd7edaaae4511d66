"""The run as a whole: every contender, every batch size, turn and turn about.

Contenders of one batch size take their turns one after the other, so that what else the machine
does falls on all of them; shares and ratios are taken within a turn and their median is told.
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

from her2d import __version__
from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.inference.engine import DeviceLostError, Engine, EngineError, Tiles
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.saturation import mean_saturation
from her2d.slides.grid import Tile
from her2d.slides.reader import open_slide
from tools.benchmark.configurations import CONTENDERS, Contender, opened
from tools.benchmark.machine import this_machine
from tools.benchmark.measurement import Entrant
from tools.benchmark.peak import product_on
from tools.benchmark.pipeline_run import PipelineRun, run_pipeline
from tools.benchmark.report import Decoding, DeviceKind, Floor, Report, Row, Skipped, Spread

_DEVICES: tuple[DeviceKind, ...] = ("cuda", "cpu")

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is under way, turns taken, turns in all)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, on what.

    Attributes:
        rules: the bundle's.
        slide: a readable slide with tissue; `slide_name` says what it is.
    """

    bundle: Bundle
    rules: PipelineRules
    slide: Path
    slide_name: str


@dataclass(frozen=True, slots=True)
class Order:
    """How it is measured.

    Attributes:
        batches: tiles at once, for both networks; at least one size.
        turns: readings of every figure, at least 1.
        reading_s: what a reading of an engine takes at least; one batch would measure the clock.
        pipeline_s: about how long each run of the pipeline is to take; one slide at least.
        limits: of the pipeline; its batches are replaced, its queue holds two of them at least.
        threads: of engines on the CPU; 0 is one for each core.
    """

    batches: tuple[int, ...]
    turns: int
    reading_s: float
    pipeline_s: float
    limits: Limits
    threads: int


def measure(
    subject: Subject,
    order: Order,
    progress: Progress = lambda *_: None,
    contenders: tuple[Contender, ...] = CONTENDERS,
) -> Report:
    """Measure every contender that runs here.

    Raises:
        SlideError: the slide cannot be read.
        EngineError: it holds no tissue, no contender runs, or (DeviceLostError) the device is lost.
    """
    machine = this_machine()
    contest = _Contest(subject, order, progress, contenders)
    for batch in order.batches:
        contest.hold(batch)
    if not contest.rows:
        # Most have the same one at every batch size.
        reasons = " ".join(dict.fromkeys(f"{s.name}: {s.reason}" for s in contest.skipped))
        raise EngineError(f"No back end works here. {reasons}")
    return Report(
        bundle=f"{subject.bundle.manifest.name} {subject.bundle.manifest.version}",
        machine=machine,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=__version__,
        slide=subject.slide_name,
        tissue_tiles=len(contest.tissue),
        tumor_tiles=contest.tumor_tiles,
        turns=order.turns,
        flops=contest.flops,
        floors=contest.floors(),
        decoding=Decoding(Spread.of(contest.decoded_per_s)),
        rows=tuple(contest.rows),
        skipped=tuple(contest.skipped),
    )


@dataclass
class _Contest:
    """Holds one round for each batch size and keeps what came of it."""

    subject: Subject
    order: Order
    progress: Progress
    contenders: tuple[Contender, ...]
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

    def hold(self, batch: int) -> None:
        """Measure everyone who can take `batch` tiles at once."""
        with ExitStack() as engines:
            entrants = self._entrants(batch, engines)
            for turn in range(self.order.turns):
                self.decoded_per_s.append(self._decode())
                for entrant in list(entrants):
                    self.progress(
                        f"batch {batch}, {entrant.contender.name}", turn, self.order.turns
                    )
                    if not self._ran(entrant.take_turn, entrant.contender, batch):
                        entrants.remove(entrant)
            self.rows += [entrant.row(entrants[0], self.flops) for entrant in entrants]
        for entrant in entrants:
            readings = [turn.flops_per_s for turn in entrant.turns if turn.flops_per_s is not None]
            self._flops_per_s[entrant.contender.device] += readings
        if entrants:
            run = entrants[0].turns[0].pipeline
            self.tumor_tiles = round(len(self.tissue) * run.tumor / run.tissue)

    def floors(self) -> tuple[Floor, ...]:
        """What the matrix products reached, over the whole run."""
        return tuple(
            Floor(device, product.name, Spread.of(found) if found else None, product.reason)
            for device, product in self._products.items()
            for found in (self._flops_per_s[device],)
        )

    def _entrants(self, batch: int, engines: ExitStack) -> list[Entrant]:
        order = self.order
        limits = replace(
            order.limits,
            segmenter_batch=batch,
            classifier_batch=batch,
            queue_tiles=max(order.limits.queue_tiles, 2 * batch),
        )
        tiles = self.tissue[np.arange(batch) % len(self.tissue)]
        entrants: list[Entrant] = []
        for contender in self.contenders:
            self.progress(f"batch {batch}, opening {contender.name}", 0, order.turns)

            def enter(contender: Contender = contender) -> None:
                engine = opened(contender, self.subject.bundle, limits, order.threads)
                engines.callback(engine.close)
                score = partial(self._score, engine, limits, contender.device)
                product = self._products[contender.device]
                entrant = Entrant(contender, engine, tiles, product, order.reading_s, score)
                entrant.warm_up()
                entrants.append(entrant)

            self._ran(enter, contender, batch)
        return entrants

    def _ran(self, step: Callable[[], None], contender: Contender, batch: int) -> bool:
        """Whether `step` succeeded; where the engine failed, the contender is out, and why."""
        try:
            step()
        except DeviceLostError:
            raise
        except EngineError as error:
            self.skipped.append(Skipped(contender.name, batch, str(error)))
            return False
        return True

    def _score(
        self, engine: Engine, limits: Limits, device: DeviceKind, segmented_per_s: float
    ) -> PipelineRun:
        copies = round(self.order.pipeline_s * segmented_per_s / len(self.tissue))
        return run_pipeline(
            engine,
            self._integrator,
            self.subject.rules,
            limits,
            self.subject.slide,
            max(1, copies),
            device,
        )

    def _decode(self) -> float:
        started = time.perf_counter()
        with open_slide(self.subject.slide) as slide:
            tiles = sum(1 for _ in slide.tiles(workers=self.order.limits.decode_workers))
        return tiles / (time.perf_counter() - started)


def _tissue(subject: Subject) -> Tiles:
    with open_slide(subject.slide) as slide:
        tissue = [
            tile.pixels
            for tile in slide.tiles()
            if isinstance(tile, Tile) and mean_saturation(tile.pixels) > subject.rules.saturation
        ]
    if not tissue:
        raise EngineError(f"{subject.slide} holds no tissue: there is nothing to measure on.")
    return np.stack(tissue)


def _flops(bundle: Bundle) -> dict[str, int] | None:
    try:
        # onnx comes with the extras, not with the base install.
        from tools.benchmark.flops import flops_of
    except ImportError:
        return None
    parts = {"segmenter": bundle.segmenter, "classifiers": bundle.classifiers}
    return {part: flops_of(path) for part, path in parts.items()}
