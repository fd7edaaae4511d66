"""What is asked of the database often takes SQLite as many steps with many rows as with few.

A step is an instruction of SQLite's virtual machine. It does not depend on the machine or on what
else runs on it, and a query that reads, counts or sorts all rows takes some steps for each of them.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from busy_laboratory import ACTS, Laboratory, laboratory

from her2d.daemon import readings
from her2d.db.connection import open_readonly

FEW, MANY = 600, 1200  # more than the outcomes of which a scrape reads the newest


@pytest.fixture(scope="module")
def laboratories(tmp_path_factory) -> Iterator[list[Laboratory]]:
    folder = tmp_path_factory.mktemp("steps")
    with ExitStack() as opened:
        yield [opened.enter_context(laboratory(folder / str(size), size)) for size in (FEW, MANY)]


def steps(name: str, site: Laboratory, monkeypatch) -> int:
    """Return how many steps SQLite takes, in the connections of the laboratory and of scrapes."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    def opened(*args, **kwargs):
        db = open_readonly(*args, **kwargs)
        db.conn.set_progress_handler(count, 1)
        return db

    monkeypatch.setattr(readings, "open_readonly", opened)
    ACTS[name](site)  # what is done once, such as the end of waits
    counted = 0
    site.db.conn.set_progress_handler(count, 1)
    ACTS[name](site)
    site.db.conn.set_progress_handler(None, 1)
    return counted


@pytest.mark.parametrize("name", ACTS)
def test_what_is_asked_often_takes_as_many_steps_with_many_rows(laboratories, monkeypatch, name):
    few, many = (steps(name, each, monkeypatch) for each in laboratories)
    assert 0 < many < 1.1 * few
