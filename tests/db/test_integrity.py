"""What is found wrong with a database file."""

from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.db.integrity import COUNTED, problems
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    db = open_database(path)
    for name in ("a", "b"):
        JobQueue(db).discover(Path(f"/in/{name}.tif"), Path("/in"), FileState(0, 1, 1))
    db.close()
    return path


def test_a_sound_database_has_none(database):
    assert problems(database) == []


@pytest.mark.parametrize(
    "damage",
    [
        "delete from job_counts",
        "update job_counts set number = number + 1",
        "insert into outcome_counts values ('positive', 1)",
        "insert into result_counts values ('positive', '', 0, -1, 7, 2)",
    ],
)
def test_counts_that_differ_from_their_rows_are_found(database, damage):
    db = open_database(database)
    db.conn.execute("pragma foreign_keys = off")
    with db.conn:
        db.conn.execute(damage)
    db.close()
    (table,) = [name for name in COUNTED if name in damage]
    assert f"{table} differs from the rows that it counts" in problems(database)
