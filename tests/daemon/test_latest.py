"""The newest value that can be had without waiting, and its age."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from daemon_site import PATIENCE_S

from her2d.daemon.latest import Latest


@pytest.fixture
def latest() -> Iterator[Callable[..., Latest[Any]]]:
    made = []

    def make(read: Callable[[], Any]) -> Latest[Any]:
        made.append(Latest(read, "her2d-test"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_each_call_reads_anew(latest):
    numbers = iter(range(10))
    value = latest(lambda: next(numbers))
    assert [value.within(PATIENCE_S) for _ in range(3)] == [(0, 0.0), (1, 0.0), (2, 0.0)]


def test_a_value_that_takes_too_long_is_the_last_one_with_its_age(latest):
    free = threading.Event()
    free.set()
    value = latest(lambda: free.wait(PATIENCE_S) and "read")
    assert value.within(PATIENCE_S) == ("read", 0.0)
    free.clear()
    started = time.monotonic()
    last, age_s = value.within(0.2)
    assert (last, age_s > 0.1) == ("read", True)
    assert time.monotonic() - started < PATIENCE_S
    free.set()


def test_a_first_value_that_takes_too_long_is_none(latest):
    free = threading.Event()
    assert latest(lambda: free.wait(PATIENCE_S)).within(0.05) == (None, 0.0)
    free.set()


def test_a_value_that_cannot_be_read_leaves_the_last_one(latest):
    values: Iterator[Any] = iter(["read"])
    value = latest(lambda: next(values))
    assert value.within(PATIENCE_S) == ("read", 0.0)
    assert value.within(0.2)[0] == "read"
