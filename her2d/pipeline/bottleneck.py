"""Which part of the pipeline limits how fast slides are scored.

Stages work at the same time and wait for each other, so the slowest is the one that works most of
the time. Waiting for a tile, or for room in the next stage's queue, is not work.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

WAITING_FOR_SLIDES = "waiting for slides"
STAGES = ("disk", "decode", "upload", "segment", "classify", "score")
BOTTLENECKS = (*STAGES, WAITING_FOR_SLIDES)

_LEAST_OCCUPIED = 0.5
_RECENT_S = 300.0


@dataclass(frozen=True, slots=True)
class PipelineTimes:
    """Seconds that only grow; two of them describe the time between.

    Attributes:
        at: `time.monotonic` of the reading.
        occupied_s: with at least one slide in the pipeline.
        slide_s: of all slides in the pipeline, added up.
        tile_wait_s: that slides waited for tiles to be read, decoded and inspected.
        decode_s: that threads worked on these tiles, reading included.
        read_s: of `decode_s`, that storage was waited for.
        score_s: that slides were integrated and scored.
        stages: that each of the other stages worked, by name.
    """

    at: float
    occupied_s: float = 0.0
    slide_s: float = 0.0
    tile_wait_s: float = 0.0
    decode_s: float = 0.0
    read_s: float = 0.0
    score_s: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limited the pipeline over some time.

    Attributes:
        stage: one of `BOTTLENECKS`.
        busy: share of the time with slides in the pipeline in which each stage worked, 0 to 1. For
            `disk` and `decode` it is the share in which slides waited for a tile, divided between
            the two as the threads' time was.
    """

    stage: str
    busy: dict[str, float]


def find_bottleneck(before: PipelineTimes, after: PipelineTimes) -> Bottleneck:
    """Return what limited the pipeline between two readings.

    It is the stage that worked for the largest share of the time with slides in the pipeline. If
    there were none for more than half of the time, the pipeline waited for slides.
    """
    occupied_s = after.occupied_s - before.occupied_s
    slide_s = after.slide_s - before.slide_s
    tiles = _share(after.tile_wait_s - before.tile_wait_s, slide_s)
    of_disk = _share(after.read_s - before.read_s, after.decode_s - before.decode_s)
    busy = {
        "disk": tiles * of_disk,
        "decode": tiles * (1 - of_disk),
        **{
            name: _share(seconds - before.stages.get(name, 0.0), occupied_s)
            for name, seconds in after.stages.items()
        },
        "score": _share(after.score_s - before.score_s, slide_s),
    }
    if occupied_s <= _LEAST_OCCUPIED * (after.at - before.at):
        return Bottleneck(WAITING_FOR_SLIDES, busy)
    return Bottleneck(max(busy, key=lambda name: busy[name]), busy)


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


class RecentBottleneck:
    """The bottleneck of the last five minutes, or since the last reading if that is longer ago."""

    def __init__(self, first: PipelineTimes) -> None:
        self._readings = deque([first])
        self._lock = threading.Lock()

    def advance(self, now: PipelineTimes) -> Bottleneck:
        """Add a reading and return the bottleneck. Safe to call from several threads."""
        with self._lock:
            self._readings.append(now)
            while len(self._readings) > 2 and self._readings[1].at <= now.at - _RECENT_S:
                self._readings.popleft()
            return find_bottleneck(self._readings[0], now)


class Occupancy:
    """Counts the time in which slides are in the pipeline. Safe to use from several threads."""

    def __init__(self) -> None:
        self._slides = 0
        self._at = time.monotonic()
        self._occupied_s = 0.0
        self._slide_s = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def slide(self) -> Iterator[None]:
        """Count this block as one slide in the pipeline."""
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)

    def read(self) -> tuple[float, float]:
        """Return seconds with at least one slide, and the seconds of all slides added up."""
        return self._change(0)

    def _change(self, slides: int) -> tuple[float, float]:
        with self._lock:
            now = time.monotonic()
            passed, self._at = now - self._at, now
            self._occupied_s += passed if self._slides else 0.0
            self._slide_s += passed * self._slides
            self._slides += slides
            return self._occupied_s, self._slide_s
