"""The stages between a decoded tile and its class, each on a thread of its own.

Batches are filled across slides; an error ends the slides in the batch, never the stage.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from her2d.inference import Engine
from her2d.pipeline.batch_queue import BatchQueue
from her2d.pipeline.slide_run import SlideRun

_TILE_PIXELS = 512 * 512


@dataclass(frozen=True, slots=True)
class TileWork:
    """One tile under way.

    Attributes:
        pixels: uint8 (512, 512, 3) RGB, owned by whoever holds this.
        waiting_since: `time.monotonic` when it began to wait for its next stage.
    """

    run: SlideRun
    row: int
    column: int
    pixels: NDArray[np.uint8]
    waiting_since: float = field(default_factory=time.monotonic)

    def given_up(self) -> bool:
        """True where nobody waits for this tile any more."""
        return self.run.ended


Work = TypeVar("Work", bound=TileWork)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch of one stage.

    Attributes:
        seconds: how long the stage worked on it.
        waits_s: how long each of its tiles had waited before.
    """

    stage: str
    seconds: float
    waits_s: tuple[float, ...]


Observe = Callable[[BatchReport], None]
"""Told of each batch, from the stage's thread."""


class Stage(Generic[Work]):
    """A thread that takes batches from a queue until the queue is closed.

    Attributes:
        tiles, batches, busy_s: what it has done so far; read freely, written by its thread only.
    """

    def __init__(
        self,
        name: str,
        queue: BatchQueue[Work],
        work: Callable[[list[Work]], None],
        *,
        batch: int,
        fill_s: float,
        observe: Observe,
    ) -> None:
        self.name = name
        self.queue = queue
        self.tiles = 0
        self.batches = 0
        self.busy_s = 0.0
        self._work = work
        self._batch = batch
        self._fill_s = fill_s
        self._observe = observe
        self._thread = threading.Thread(target=self._loop, name=f"her2d-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _loop(self) -> None:
        while batch := self.queue.take(self._batch, fill_s=self._fill_s):
            live = [item for item in batch if not item.run.ended]
            if not live:
                continue
            started = time.monotonic()
            try:
                self._work(live)
            except Exception as error:  # noqa: BLE001  it belongs to these slides: their threads raise it
                for item in live:
                    item.run.fail(error)
            seconds = time.monotonic() - started
            self.busy_s += seconds
            self.tiles += len(live)
            self.batches += 1
            waits = tuple(started - item.waiting_since for item in live)
            self._observe(BatchReport(self.name, seconds, waits))


def segment(
    engine: Engine, classify_queue: BatchQueue[TileWork], tumor_fraction: float
) -> Callable[[list[TileWork]], None]:
    """The segmenter's work: tiles of more than `tumor_fraction` tumour go on to classification."""

    def work(batch: list[TileWork]) -> None:
        found = engine.segment(np.stack([item.pixels for item in batch]))
        for item, mask in zip(batch, found.mask, strict=True):
            width, height = item.run.grid.extent(item.column, item.row)
            # Padding is not tissue: whatever the network says of it counts for nothing.
            mask[height:] = 0
            mask[:, width:] = 0
            tumor_pixels = int(np.count_nonzero(mask))
            if tumor_pixels <= tumor_fraction * _TILE_PIXELS:
                item.run.non_tumor(item.row, item.column, tumor_pixels)
                continue
            item.run.tumor(item.row, item.column, tumor_pixels, mask)
            waiting = replace(item, waiting_since=time.monotonic())
            classify_queue.put(waiting, abandoned=item.given_up)

    return work


def classify(engine: Engine) -> Callable[[list[TileWork]], None]:
    """The five sub-classifiers' work."""

    def work(batch: list[TileWork]) -> None:
        p_folds = engine.classify(np.stack([item.pixels for item in batch]))
        for item, p in zip(batch, p_folds, strict=True):
            item.run.classified(item.row, item.column, p)

    return work
