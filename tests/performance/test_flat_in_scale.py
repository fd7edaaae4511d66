"""What the daemon and its users ask of the database costs the same at 100 rows and at 100,000.

make bench        prints the microseconds of processor time of each in the smallest laboratory, and
                  the ratios to it with 100, 1,000, 10,000 and 100,000 rows, medians
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from busy_laboratory import ACTS, SCRAPE, Laboratory, laboratory

pytestmark = pytest.mark.benchmark

SIZES = (100, 1000, 10_000, 100_000)
ROUNDS = 9
LIMIT = 1.2
# A scrape compares 500 outcomes with calls, and the smallest laboratory has only 100.
SMALLEST = {SCRAPE: 1000}


@pytest.fixture(scope="module")
def laboratories(tmp_path_factory) -> Iterator[dict[int, Laboratory]]:
    folder = tmp_path_factory.mktemp("flat")
    with ExitStack() as opened:
        yield {size: opened.enter_context(laboratory(folder / str(size), size)) for size in SIZES}


def microseconds(act: Callable[[Laboratory], object], each: Laboratory) -> float:
    repeats, taken = 1, 0.0
    while taken < 0.005:  # so that the clock's resolution does not count
        repeats *= 2
        started = time.process_time()
        for _ in range(repeats):
            act(each)
        taken = time.process_time() - started
    return 1e6 * taken / repeats


@pytest.mark.parametrize("name", ACTS)
def test_what_is_asked_often_costs_the_same_however_many_rows_there_are(laboratories, name):
    act, smallest = ACTS[name], SMALLEST.get(name, SIZES[0])
    taken: dict[int, list[float]] = {size: [] for size in SIZES}
    for each in laboratories.values():
        act(each)
    for _ in range(ROUNDS):
        for size, each in laboratories.items():
            taken[size].append(microseconds(act, each))
    ratios = {
        size: statistics.median(
            more / less for more, less in zip(taken[size], taken[smallest], strict=True)
        )
        for size in SIZES
    }
    ratio = " | ".join(f"{ratios[size]:.2f}" for size in SIZES)
    print(f"\n| {name} | {statistics.median(taken[smallest]):.0f} | {ratio} |", end="")
    assert ratios[SIZES[-1]] < LIMIT
