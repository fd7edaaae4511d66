"""Writes that are repeated until the database accepts them."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from captured_logs import capture_logs

from her2d.db.connection import open_database
from her2d.db.retry import WriteCancelledError, is_temporary, until_written
from her2d.system.backoff import Backoff


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("her2d.db.retry._BACKOFF", Backoff(first_s=0.001, longest_s=0.004))


@pytest.fixture
def locked(tmp_path) -> Iterator[sqlite3.Connection]:
    """A connection that holds the writing lock until it is rolled back."""
    path = tmp_path / "her2d.sqlite"
    open_database(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("begin immediate")
        yield holder


def write(folder: Path) -> str:
    with closing(open_database(folder / "her2d.sqlite", busy_timeout_s=0.001)) as db:
        db.table("events").insert({"at": "now", "name": "written"})
    return "done"


def events(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "her2d.sqlite")) as connection:
        return [name for (name,) in connection.execute("select name from events")]


def test_a_write_is_repeated_until_the_lock_is_released(locked, tmp_path):
    waited: list[None] = []

    def waiting() -> None:
        waited.append(None)
        if len(waited) == 5:
            locked.execute("rollback")

    with capture_logs() as logs:
        found = until_written(lambda: write(tmp_path), threading.Event(), waiting)
    assert found == "done"
    assert events(tmp_path) == ["written"]
    assert [entry["again_in_s"] for entry in logs] == [0.001, 0.002, 0.004, 0.004, 0.004]
    assert {entry["event"] for entry in logs} == {"write_waits_for_database"}


def test_the_error_of_a_cancelled_write_has_the_databases_error_as_its_cause(locked, tmp_path):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(WriteCancelledError) as cancelled:
        until_written(lambda: write(tmp_path), cancel)
    assert isinstance(cancelled.value.__cause__, sqlite3.OperationalError)
    assert events(tmp_path) == []


def test_an_error_that_waiting_cannot_solve_is_raised_at_once():
    calls: list[None] = []

    def wrong() -> None:
        calls.append(None)
        sqlite3.connect(":memory:").execute("select * from absent")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        until_written(wrong, threading.Event())
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_CONSTRAINT, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_extended_result_codes_are_treated_as_their_primary_codes(code, expected):
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    assert is_temporary(error) is expected
