"""What happens to the database's files under a running daemon, on real files."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from captured_logs import capture_logs
from queue_fixtures import Clock
from sqlite_utils import Database

from her2d.daemon.database_watch import DatabaseWatch
from her2d.db.connection import DatabaseError, open_database, open_readonly
from her2d.db.integrity import problems
from her2d.db.lock import hold_database
from her2d.db.write_ahead_log import cut_log, log_bytes, log_of


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    open_database(path).close()
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(database) -> Iterator[Database]:
    db = open_database(database)
    db.execute("pragma wal_autocheckpoint = 0")
    note(db, "first")
    yield db
    db.close()


@pytest.fixture
def watch(database, db, clock) -> Iterator[DatabaseWatch]:
    with hold_database(database) as locked:
        yield DatabaseWatch(locked, db, clock)
        db.close()  # before the lock's file is


def note(db: Database, *names: str) -> None:
    db.table("events").insert_all({"at": "now", "name": name} for name in names)


def removed(database: Path) -> None:
    database.unlink()


def moved_away(database: Path) -> None:
    database.rename(database.with_name("elsewhere.sqlite"))


def replaced(database: Path) -> None:
    copy = database.with_name("copy")
    shutil.copy(database, copy)
    copy.replace(database)


def truncated_to_nothing(database: Path) -> None:
    os.truncate(database, 0)


def truncated_within_the_header(database: Path) -> None:
    os.truncate(database, 60)


def overwritten(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"something else, and not a database")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (removed, "was removed or replaced"),
        (moved_away, "was removed or replaced"),
        (replaced, "was removed or replaced"),
        (truncated_to_nothing, "was truncated or overwritten"),
        (truncated_within_the_header, "was truncated or overwritten"),
        (overwritten, "was truncated or overwritten"),
    ],
)
def test_a_database_that_is_lost_is_noticed_at_the_next_check(database, watch, harm, expected):
    watch.check()
    harm(database)
    with pytest.raises(DatabaseError, match=expected):
        watch.check()


def test_a_database_that_stays_shorter_than_its_header_says_is_noticed(database, db, watch, clock):
    cut_log(db)
    watch.check()
    os.truncate(database, database.stat().st_size // 2)
    watch.check()
    clock.pass_(9)
    watch.check()
    clock.pass_(2)
    with pytest.raises(DatabaseError, match="was truncated or overwritten"):
        watch.check()


def test_a_database_that_grows_and_shrinks_is_sound(database, db, watch, clock):
    for _ in range(3):
        note(db, *["x" * 4000] * 300)
        cut_log(db)
        watch.check()
        db.execute("delete from events")
        db.conn.executescript("pragma incremental_vacuum")
        clock.pass_(61)
        watch.check()
    assert problems(database) == []


@pytest.mark.parametrize("replace", [False, True])
def test_what_a_removed_log_held_is_saved(database, db, watch, replace):
    watch.check()
    note(db, "only in the log")
    log_of(database).unlink()
    if replace:
        log_of(database).touch()
    with pytest.raises(DatabaseError, match=r"removed while her2d was running.* was saved"):
        watch.check()
    log_of(database).unlink(missing_ok=True)
    log_of(database).with_name("her2d.sqlite-shm").unlink(missing_ok=True)
    uri = f"{database.as_uri()}?immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as found:
        names = [name for (name,) in found.execute("select name from events")]
    assert names == ["first", "only in the log"]


def test_the_log_is_cut_once_a_minute(database, db, watch, clock):
    clock.pass_(59)
    watch.check()
    assert log_bytes(database) > 0
    clock.pass_(1)
    watch.check()
    assert log_bytes(database) == 0
    note(db, "later")
    clock.pass_(59)
    watch.check()
    assert log_bytes(database) > 0


def events_of(check: Callable[[], None]) -> list[str]:
    with capture_logs() as logs:
        check()
    return [entry["event"] for entry in logs]


def test_a_log_that_is_large_and_cannot_be_cut_is_reported_once(
    database, db, watch, clock, monkeypatch
):
    monkeypatch.setattr("her2d.daemon.database_watch._LARGE_LOG_BYTES", 100_000)
    with closing(open_readonly(database)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from events").fetchone()
        note(db, *["x" * 1000] * 300)
        clock.pass_(60)
        assert events_of(watch.check) == ["database_log_not_cut"]
        clock.pass_(60)
        assert events_of(watch.check) == []
    clock.pass_(60)
    watch.check()
    assert log_bytes(database) == 0
