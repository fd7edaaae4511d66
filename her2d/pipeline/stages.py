"""The stages between a decoded tile and its class, each in its own thread.

Batches are filled across slides; an error ends the slides in the batch, never the stage. Uploading
is a stage too, so that the next batch is uploaded while the engine works on this one.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from structlog.contextvars import bound_contextvars

from her2d.inference.engine import Engine, EngineError, KeptTile, TileBatch, TileEngine
from her2d.method import FOLDS, TILE_PX
from her2d.pipeline.batch_queue import BatchQueue
from her2d.pipeline.early_decision import EarlyDecision
from her2d.pipeline.slide_run import SlideRun
from her2d.pipeline.tumor_mask import count_tumor
from her2d.system.cpu_share import CpuShare

_TILE_PIXELS = TILE_PX * TILE_PX


class Work(Protocol):
    """What a stage takes from its queue."""

    @property
    def waiting_since(self) -> tuple[float, ...]:
        """`time.monotonic` when each of its tiles began to wait for the stage."""
        ...

    @property
    def runs(self) -> Iterable[SlideRun]:
        """The slides it belongs to."""
        ...

    def given_up(self) -> bool:
        """Whether nothing waits for it any more."""
        ...

    def fail(self, error: Exception) -> None:
        """End the slides it belongs to with `error`."""
        ...

    def drop(self) -> None:
        """Release what it holds in the engine; harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True)
class TileWork:
    """One tile in the pipeline.

    Attributes:
        pixels: uint8 (512, 512, 3) RGB.
        artefacts: see `TileQuality`.
    """

    run: SlideRun
    row: int
    column: int
    pixels: NDArray[np.uint8]
    artefacts: NDArray[np.bool_] | None
    since: float = field(default_factory=time.monotonic)

    @property
    def waiting_since(self) -> tuple[float, ...]:
        return (self.since,)

    @property
    def runs(self) -> Iterable[SlideRun]:
        return (self.run,)

    def given_up(self) -> bool:
        return self.run.ended

    def fail(self, error: Exception) -> None:
        self.run.fail(error)

    def drop(self) -> None:
        """Do nothing: it holds nothing in the engine."""


@dataclass(frozen=True, slots=True)
class UploadedBatch:
    """Tiles that the engine has, in the order of `items`."""

    items: tuple[TileWork, ...]
    batch: TileBatch
    since: float = field(default_factory=time.monotonic)

    @property
    def waiting_since(self) -> tuple[float, ...]:
        return (self.since,) * len(self.items)

    @property
    def runs(self) -> Iterable[SlideRun]:
        return (item.run for item in self.items)

    def given_up(self) -> bool:
        return all(item.given_up() for item in self.items)

    def fail(self, error: Exception) -> None:
        for item in self.items:
            item.fail(error)

    def drop(self) -> None:
        self.batch.release()


@dataclass(frozen=True, slots=True)
class TumorTile:
    """A tumour tile that the engine keeps until it is classified."""

    run: SlideRun
    row: int
    column: int
    kept: KeptTile
    since: float = field(default_factory=time.monotonic)

    @property
    def waiting_since(self) -> tuple[float, ...]:
        return (self.since,)

    @property
    def runs(self) -> Iterable[SlideRun]:
        return (self.run,)

    def given_up(self) -> bool:
        return self.run.ended

    def fail(self, error: Exception) -> None:
        self.run.fail(error)

    def drop(self) -> None:
        self.kept.release()


W = TypeVar("W", bound=Work)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch of one stage.

    Attributes:
        seconds: how long the stage worked on it, without waiting for room in the next queue.
        waits_s: how long each of its tiles had waited before.
    """

    stage: str
    seconds: float
    waits_s: tuple[float, ...]


Observe = Callable[[BatchReport], None]
"""Called with each batch, from the stage's thread."""


class Stage(Generic[W]):
    """A thread that takes batches from a queue until the queue is closed.

    Attributes:
        tiles, batches, busy_s: what it has done so far; written by its thread only. Waiting for
            room in the next stage's queue, or for the engine's turn, does not count as busy.
    """

    def __init__(
        self,
        name: str,
        queue: BatchQueue[W],
        work: Callable[[list[W]], None],
        *,
        batch: int,
        fill_s: float,
        observe: Observe,
        most: int | None = None,
        hands_to: BatchQueue[Any] | None = None,
        cpus: CpuShare | None = None,
    ) -> None:
        """Prepare the thread, which `start` starts.

        Args:
            name: of the stage.
            queue: where its work comes from.
            work: what it does with a batch.
            batch: size of a full batch.
            fill_s: how long it waits for one.
            observe: called with each batch.
            most: how much it takes at once if that much is there; None is a full batch.
            hands_to: the queue that this stage alone fills, if it fills one.
            cpus: what it shares with other stages, if it computes on the CPU.
        """
        self.name = name
        self.queue = queue
        self.tiles = 0
        self.batches = 0
        self.busy_s = 0.0
        self._work = work
        self._batch = batch
        self._most = most or batch
        self._fill_s = fill_s
        self._observe = observe
        self._hands_to = hands_to
        self._cpus = cpus
        self._thread = threading.Thread(target=self._loop, name=f"her2d-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _loop(self) -> None:
        # A local variable here would hold the last batch, and its slide, until the next one.
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Take a batch and work on it; return False if the queue is closed."""
        batch = self.queue.take(self._most, enough=self._batch, fill_s=self._fill_s)
        live = []
        for item in batch:
            if item.given_up():
                item.drop()
            else:
                live.append(item)
        if not live:
            return bool(batch)
        started, blocked_s = time.monotonic(), self._blocked_s()
        try:
            with bound_contextvars(**_bound_to(live)):
                self._work(live)
        except Exception as error:  # noqa: BLE001  it belongs to these slides: their threads raise it
            for item in live:
                item.fail(error)
                item.drop()
        seconds = time.monotonic() - started - (self._blocked_s() - blocked_s)
        waits = tuple(started - since for item in live for since in item.waiting_since)
        self.busy_s += seconds
        self.tiles += len(waits)
        self.batches += 1
        self._observe(BatchReport(self.name, seconds, waits))
        return True

    def _blocked_s(self) -> float:
        for_room = self._hands_to.blocked_s if self._hands_to is not None else 0.0
        return for_room + (self._cpus.waited_s() if self._cpus is not None else 0.0)


def _bound_to(batch: Sequence[Work]) -> Mapping[str, Any]:
    """Return a batch's log context: its slide's, or a list of those of several."""
    runs = {id(run): run.bound for work in batch for run in work.runs}
    (one, *others) = runs.values()
    return {"slides": [one, *others]} if others else one


def upload(
    engine: TileEngine, segment_queue: BatchQueue[UploadedBatch]
) -> Callable[[list[TileWork]], None]:
    """Bring a batch of tiles to the engine."""

    def work(items: list[TileWork]) -> None:
        uploaded = UploadedBatch(tuple(items), engine.upload([item.pixels for item in items]))
        if not segment_queue.put(uploaded, abandoned=uploaded.given_up):
            uploaded.drop()

    return work


def segment(
    classify_queue: BatchQueue[TumorTile], tumor_fraction: float
) -> Callable[[list[UploadedBatch]], None]:
    """The segmenter's work: tiles of more than `tumor_fraction` tumour go on to classification."""

    def work(uploads: list[UploadedBatch]) -> None:
        for uploaded in uploads:
            kept = _tumor_tiles(uploaded, tumor_fraction)
            # The next upload may have the place before these tiles find room in the queue.
            uploaded.drop()
            for tile in kept:
                if not classify_queue.put(tile, abandoned=tile.given_up):
                    tile.drop()

    return work


def _tumor_tiles(uploaded: UploadedBatch, tumor_fraction: float) -> list[TumorTile]:
    kept: list[TumorTile] = []
    masks = uploaded.batch.segment().mask
    try:
        for index, (item, mask) in enumerate(zip(uploaded.items, masks, strict=True)):
            if _has_tumor(item, mask, tumor_fraction):
                tile = uploaded.batch.keep(index)
                kept.append(TumorTile(item.run, item.row, item.column, tile))
    except BaseException:
        for tile_kept in kept:
            tile_kept.drop()
        raise
    return kept


def classify(engine: Engine) -> Callable[[list[TumorTile]], None]:
    """The five sub-classifiers' work."""

    def work(batch: list[TumorTile]) -> None:
        p_folds = _finite(engine.classify_kept([item.kept for item in batch]))
        for item, p in zip(batch, p_folds, strict=True):
            item.run.classified(item.row, item.column, p)

    return work


def classify_until_decided(
    engine: Engine, early_decision: EarlyDecision, full_batch: int
) -> Callable[[list[TumorTile]], None]:
    """The sub-classifiers' work, each only for the tiles that are not decided before it.

    Args:
        engine: one that can run sub-classifiers one by one.
        early_decision: decides.
        full_batch: how many tiles the engine takes at once. After each sub-classifier the tiles
            that are left are put together to full batches again.
    """

    def work(tiles: list[TumorTile]) -> None:
        p_folds = np.full((len(tiles), FOLDS), np.nan, np.float32)
        left = np.arange(len(tiles))
        for ran, fold in enumerate(early_decision.order, start=1):
            for at in range(0, len(left), full_batch):
                _classify_fold(engine, tiles, p_folds, left[at : at + full_batch], fold)
            left = _still_wanted(tiles, left)
            if ran < FOLDS:
                left = _settle_decided(tiles, p_folds, left, early_decision, ran)
        for index in left:
            tile = tiles[index]
            tile.drop()
            tile.run.classified(tile.row, tile.column, p_folds[index])

    return work


def _classify_fold(
    engine: Engine,
    tiles: Sequence[TumorTile],
    p_folds: NDArray[np.float32],
    batch: NDArray[np.int64],
    fold: int,
) -> None:
    """Run one sub-classifier for the tiles of `batch`; an error ends the slides of these only."""
    try:
        found = engine.classify_fold([tiles[index].kept for index in batch], fold)
        p_folds[batch, fold] = _finite(found)
    except Exception as error:  # noqa: BLE001  it belongs to these slides: their threads raise it
        for index in batch:
            tiles[index].fail(error)


def _finite(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities as they are, since the forest gives one that is NaN a class too.

    Raises:
        EngineError: one is not a finite number.
    """
    if not np.isfinite(p).all():
        raise EngineError("The sub-classifiers give probabilities that are not finite numbers.")
    return p


def _still_wanted(tiles: Sequence[TumorTile], left: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tiles of `left` whose slides were not given up, and drop the others."""
    given_up = np.array([tiles[index].given_up() for index in left], np.bool_)
    for index in left[given_up]:
        tiles[index].drop()
    return left[~given_up]


def _settle_decided(
    tiles: Sequence[TumorTile],
    p_folds: NDArray[np.float32],
    left: NDArray[np.int64],
    early_decision: EarlyDecision,
    ran: int,
) -> NDArray[np.int64]:
    """Settle the tiles of `left` that are decided, and return which are not."""
    found = early_decision.decide(p_folds[left], ran)
    for at in np.flatnonzero(found.decided):
        index = left[at]
        tile = tiles[index]
        tile.drop()
        tile.run.decided(
            tile.row,
            tile.column,
            p_folds[index],
            strong=bool(found.strong[at]),
            p_strong=float(found.p_strong[at]),
            least_p_strong=float(found.low[at]),
        )
    return left[~found.decided]


def _has_tumor(item: TileWork, mask: NDArray[np.uint8], tumor_fraction: float) -> bool:
    """Settle a non-tumour tile, or keep a tumour tile's mask; return which of the two."""
    extent = item.run.grid.extent(item.column, item.row)
    tumor = count_tumor(mask, extent, item.artefacts)
    item.run.artefact_tumor_pixels += tumor.left_out
    if tumor.pixels <= tumor_fraction * _TILE_PIXELS:
        item.run.non_tumor(item.row, item.column, tumor.pixels)
        return False
    item.run.tumor(item.row, item.column, tumor.pixels, mask)
    return True
