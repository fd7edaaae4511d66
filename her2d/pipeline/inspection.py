"""Measure the tiles of a slide on worker threads, in their order and only a few ahead.

Decoding a tile takes about 2 ms of CPU time and measuring its quality about 4: one thread could
serve no GPU.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.pipeline.quality import QualityLimits, TileQuality, measure_tile, shrunk
from her2d.pipeline.saturation import mean_saturation
from her2d.slides.grid import Tile, UnreadableTile
from her2d.system.cpu_share import CpuShare
from her2d.system.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class InspectedTile:
    """A readable tile and what its pixels alone show.

    Attributes:
        tile: its place and pixels.
        quality: its focus, tissue folds, pen marks and stain, and where its artefacts are.
        saturation: mean HSV saturation, 0..255.
        small: uint8 (side, side, 3) RGB, its picture in the slide's overview.
    """

    tile: Tile
    quality: TileQuality
    saturation: float
    small: NDArray[np.uint8]


def inspected(
    tiles: Iterator[Tile | UnreadableTile],
    workers: Executor,
    *,
    ahead: int,
    small_px: int,
    limits: QualityLimits,
    cpus: CpuShare,
    stopwatch: Stopwatch,
) -> Generator[InspectedTile | UnreadableTile]:
    """Yield the same tiles in the same order, the readable ones inspected.

    Args:
        tiles: a slide's.
        workers: threads that inspect; shared by several slides.
        ahead: how many tiles may be under inspection, at least 1.
        small_px: pixels along a side of each tile's small picture.
        limits: beyond which a part of a tile is an artefact.
        cpus: what the threads share with the engine.
        stopwatch: measures the threads' time.
    """
    under_way: deque[Future[InspectedTile] | UnreadableTile] = deque()
    try:
        for tile in tiles:
            if isinstance(tile, Tile):
                context = copy_context()
                work = workers.submit(
                    context.run, _inspect, tile, small_px, limits, cpus, stopwatch
                )
                under_way.append(work)
            else:
                under_way.append(tile)
            if len(under_way) >= ahead:
                yield _result(under_way.popleft())
        while under_way:
            yield _result(under_way.popleft())
    finally:
        for waiting in under_way:
            if isinstance(waiting, Future):
                waiting.cancel()


def _inspect(
    tile: Tile, small_px: int, limits: QualityLimits, cpus: CpuShare, stopwatch: Stopwatch
) -> InspectedTile:
    pixels = tile.pixels
    # What waits for a processor is not at work.
    with cpus.preparing(), stopwatch.running():
        return InspectedTile(
            tile, measure_tile(pixels, limits), mean_saturation(pixels), shrunk(pixels, small_px)
        )


def _result(
    inspection: Future[InspectedTile] | UnreadableTile,
) -> InspectedTile | UnreadableTile:
    return inspection.result() if isinstance(inspection, Future) else inspection
