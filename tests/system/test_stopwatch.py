"""The time of several threads, added up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from her2d.system.stopwatch import Stopwatch


def test_the_time_of_all_threads_is_added_up():
    stopwatch, together = Stopwatch(), threading.Barrier(3)

    def work() -> None:
        with stopwatch.running():
            together.wait(10)
            threading.Event().wait(0.1)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: work(), range(3)))
    assert stopwatch.seconds >= 0.3


def test_a_block_that_raises_is_measured_too():
    stopwatch = Stopwatch()

    def fail() -> None:
        with stopwatch.running():
            threading.Event().wait(0.05)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert stopwatch.seconds >= 0.05
