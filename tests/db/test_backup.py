"""Backups of a database that other processes write to."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from her2d.db.backup import back_up, drop_old_backups, newest_backup
from her2d.db.connection import DatabaseError, open_database
from her2d.db.integrity import problems
from her2d.db.online_copy import copy_online

PATIENCE_S = 60  # a backup that starts again at each commit rarely ends
BACK_UP = """
import sys, pathlib
from her2d.db.backup import back_up
print(back_up(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
"""
WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma synchronous = off")
for number in range(10**9):
    connection.execute("insert into events (at, name) values ('now', 'noise')")
    if number == 1000:
        print("writing", flush=True)
"""


@pytest.fixture
def large(tmp_path) -> Path:
    """A database of over 40 MB."""
    path = tmp_path / "her2d.sqlite"
    with closing(open_database(path)) as db:
        db.table("events").insert_all(
            {"at": "now", "name": "noise", "detail": "x" * 2000} for _ in range(22_000)
        )
    assert path.stat().st_size > 40_000_000
    return path


@contextmanager
def continuous_writer(database: Path) -> Iterator[None]:
    """Run a separate process that writes, as the daemon does."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(database)], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout.readline() == "writing\n"
            yield
        finally:
            writer.kill()


def test_a_backup_ends_although_another_connection_commits_continuously(large, tmp_path):
    folder = tmp_path / "backups"
    with continuous_writer(large):
        printed = subprocess.run(
            [sys.executable, "-c", BACK_UP, str(large), str(folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        ).stdout
    (copy,) = folder.iterdir()
    assert printed.strip() == str(copy)
    assert problems(copy) == []


def test_a_backup_fails_if_the_database_stays_locked(large, tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.db.online_copy._PATIENCE_S", 0.1)
    monkeypatch.setattr("her2d.db.online_copy._BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(large)) as other:
        other.execute("pragma locking_mode = exclusive")
        other.execute("delete from jobs")  # from now on no other connection can read
        other.commit()
        with pytest.raises(DatabaseError, match="locked"):
            back_up(large, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_the_next_backup_deletes_the_file_of_a_killed_one_but_not_of_a_running_one(large, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    names = ("her2d-20260101T000000000000Z.part", "her2d-20260101T000000000000Z.part-journal")
    for name in names:
        (folder / name).write_bytes(b"half")
        yesterday = time.time() - 90_000
        os.utime(folder / name, (yesterday, yesterday))
    under_way = folder / "her2d-20260102T000000000000Z.part"
    under_way.write_bytes(b"half")
    copy = back_up(large, folder)
    assert sorted(folder.iterdir()) == sorted([under_way, copy])


def backups_of(folder: Path, *years: int) -> list[Path]:
    """Create a backup for each year, with the name that it gets then."""
    paths = [folder / f"her2d-{year}0101T000000000000Z.sqlite" for year in years]
    for path in paths:
        path.touch()
    return paths


def test_a_backup_made_while_the_clock_was_behind_is_not_deleted_at_once(tmp_path, monkeypatch):
    later = backups_of(tmp_path, 2024, 2025, 2026)
    monkeypatch.setattr("her2d.db.backup.file_timestamp", lambda: "20020101T000000000000Z")
    (made,) = backups_of(tmp_path, 2002)
    assert drop_old_backups(tmp_path, 3) == later[:1]
    assert made.exists()


def test_a_backup_made_while_the_clock_was_ahead_is_not_the_newest_and_is_deleted_first(tmp_path):
    old, right, ahead = backups_of(tmp_path, 2024, 2025, 2140)
    assert newest_backup(tmp_path) == right
    assert drop_old_backups(tmp_path, 2) == [ahead]
    assert drop_old_backups(tmp_path, 1) == [old]


def test_a_copy_that_a_person_made_in_the_folder_is_neither_counted_nor_deleted(tmp_path):
    made = backups_of(tmp_path, 2025, 2026)
    by_hand = [tmp_path / name for name in ("her2d-2027-moved.sqlite", "her2d-2.sqlite")]
    for path in by_hand:
        path.touch()
    folder, link = (tmp_path / f"her2d-2024010{n}T000000000000Z.sqlite" for n in (1, 2))
    folder.mkdir()
    link.symlink_to(by_hand[0])
    by_hand += [folder, link]
    assert newest_backup(tmp_path) == made[1]
    assert drop_old_backups(tmp_path, 1) == made[:1]
    assert all(path.exists() for path in by_hand)


def test_a_backup_can_be_read_by_no_more_users_than_the_database_also_while_it_grows(
    tmp_path, monkeypatch
):
    database = tmp_path / "her2d.sqlite"
    open_database(database).close()
    database.chmod(0o600)
    modes: list[int] = []

    def noted(source: Path, part: Path) -> None:
        modes.append(part.stat().st_mode & 0o777)
        copy_online(source, part)

    monkeypatch.setattr("her2d.db.online_copy.copy_online", noted)
    copy = back_up(database, tmp_path / "backups")
    assert modes[0] & ~0o640 == 0
    assert copy.stat().st_mode & 0o777 == 0o600
