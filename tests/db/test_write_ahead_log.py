"""Writing the log back to the database, and making it short."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from her2d.db.connection import open_database, open_readonly
from her2d.db.write_ahead_log import cut_log, log_bytes, log_of, write_back


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "her2d.sqlite"


@pytest.fixture
def db(path) -> Iterator[Database]:
    db = open_database(path)
    db.execute("pragma wal_autocheckpoint = 0")
    yield db
    db.close()


def note(db: Database, rows: int = 1) -> None:
    db.table("events").insert_all({"at": "now", "name": "x" * 1000} for _ in range(rows))


def in_the_file_alone(path: Path) -> int:
    """Count the events that would be left if the log were lost."""
    uri = f"{path.as_uri()}?immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute("select count(*) from events").fetchone()[0]


def test_a_log_that_nobody_reads_is_cut_to_nothing(path, db):
    note(db, 500)
    assert log_bytes(path) > 500_000
    assert cut_log(db)
    assert log_bytes(path) == 0
    assert in_the_file_alone(path) == 500


def test_a_log_that_is_read_stays_and_is_cut_once_the_reader_has_gone(path, db):
    note(db)
    with closing(open_readonly(path)) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from events").fetchone() == (1,)
        note(db, 500)
        assert not cut_log(db, patience_ms=10)
        assert log_bytes(path) > 500_000
        assert reader.execute("select count(*) from events").fetchone() == (1,)
    assert cut_log(db)
    assert log_bytes(path) == 0


def test_cutting_keeps_the_connections_own_patience(db):
    before = db.execute("pragma busy_timeout").fetchone()
    cut_log(db, patience_ms=7)
    assert db.execute("pragma busy_timeout").fetchone() == before


def test_what_was_written_back_outlives_the_log(path, db):
    write_back(db)
    note(db)
    assert in_the_file_alone(path) == 0
    write_back(db)
    assert in_the_file_alone(path) == 1


def test_the_log_lies_beside_the_database_and_not_beside_a_link_to_it(path, db, tmp_path):
    link = tmp_path / "other" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    note(db)
    assert log_of(link) == log_of(path)
    assert log_bytes(link) == log_bytes(path) > 0


def test_a_database_without_a_log_has_a_log_of_no_bytes(path):
    assert log_bytes(path) == 0
