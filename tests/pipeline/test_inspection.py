"""Tiles are measured on worker threads, in their order and only a few ahead."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from her2d.pipeline.inspection import InspectedTile, inspected
from her2d.pipeline.quality import QualityLimits
from her2d.slides.grid import Tile, UnreadableTile
from her2d.system.cpu_share import CpuShare
from her2d.system.stopwatch import Stopwatch


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def inspect(
    tiles: Iterator[Tile | UnreadableTile],
    workers: ThreadPoolExecutor,
    stopwatch: Stopwatch | None = None,
) -> Generator[InspectedTile | UnreadableTile]:
    return inspected(
        tiles,
        workers,
        ahead=4,
        small_px=8,
        limits=QualityLimits(),
        cpus=CpuShare(),
        stopwatch=stopwatch or Stopwatch(),
    )


def grey(column: int) -> Tile:
    return Tile(column, 0, np.full((512, 512, 3), column, np.uint8))


def test_tiles_keep_their_order_and_unreadable_ones_their_place(workers):
    tiles = [UnreadableTile(n, 0, "lost") if n % 5 == 2 else grey(n) for n in range(20)]
    found = list(inspect(iter(tiles), workers))
    columns = [one.tile.column if isinstance(one, InspectedTile) else one.column for one in found]
    assert columns == list(range(20))
    assert [type(one) is UnreadableTile for one in found] == [n % 5 == 2 for n in range(20)]
    assert all(
        (one.small == one.tile.column).all() for one in found if isinstance(one, InspectedTile)
    )


def test_no_more_tiles_are_taken_than_may_be_under_inspection(workers):
    taken = []

    def tiles() -> Iterator[Tile]:
        for column in range(20):
            taken.append(column)
            yield grey(column)

    found = inspect(tiles(), workers)
    for number in range(1, 10):
        next(found)
        assert len(taken) <= number + 4
    found.close()


def test_an_error_of_the_reader_reaches_the_receiver(workers):
    def tiles() -> Iterator[Tile]:
        yield grey(0)
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        list(inspect(tiles(), workers))


def test_the_threads_time_is_measured(workers):
    stopwatch = Stopwatch()
    list(inspect(iter([grey(0), UnreadableTile(1, 0, "lost")]), workers, stopwatch))
    assert stopwatch.seconds > 0
