"""Restoring a database from a backup."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from her2d.db.backup import back_up
from her2d.db.connection import DatabaseError, open_database, schema_version
from her2d.db.integrity import problems
from her2d.db.lock import AlreadyRunningError, hold_daemon_lock
from her2d.db.restore import restore


def note(database: Path, name: str) -> None:
    with closing(open_database(database)) as db:
        db.table("events").insert({"at": "now", "name": name})


def notes(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("select name from events order by id")]


def without_a_log(database: Path) -> bool:
    return not any(database.with_name(database.name + end).exists() for end in ("-wal", "-shm"))


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    note(path, "old")
    return path


@pytest.fixture
def backup(database, tmp_path) -> Path:
    return back_up(database, tmp_path / "backups")


def power_cut(database: Path, name: str) -> None:
    """Leave the database as a power cut does, with its last commit in the write-ahead log only."""
    with closing(open_database(database)) as db:
        db.table("events").insert({"at": "now", "name": name})
        kept = {end: Path(f"{database}{end}").read_bytes() for end in ("", "-wal", "-shm")}
    for end, data in kept.items():
        Path(f"{database}{end}").write_bytes(data)
    assert Path(f"{database}-wal").stat().st_size > 0


def test_a_restore_returns_the_database_to_its_state_at_the_backup(database, backup):
    note(database, "new")
    restore(backup, database)
    assert notes(database) == ["old"]
    assert problems(database) == []
    note(database, "later")
    assert notes(database) == ["old", "later"]


def test_a_leftover_log_is_kept_and_not_applied_to_the_backup(database, backup):
    power_cut(database, "new")
    aside = restore(backup, database)
    assert without_a_log(database)
    assert notes(database) == ["old"]
    assert notes(aside) == ["old", "new"]


def test_a_database_too_damaged_to_open_is_kept_with_its_log(database, backup):
    power_cut(database, "new")
    log = Path(f"{database}-wal").read_bytes()
    database.write_bytes(b"no database any more " * 1000)
    aside = restore(backup, database)
    assert aside.read_bytes().startswith(b"no database any more")
    assert Path(f"{aside}-wal").read_bytes() == log
    assert without_a_log(database)
    assert notes(database) == ["old"]


def test_a_restore_leaves_only_the_database_its_lock_and_the_previous_database(database, backup):
    aside = restore(backup, database)
    assert {path.name for path in database.parent.iterdir()} == {
        "her2d.sqlite",
        "her2d.sqlite.lock",
        "backups",
        aside.name,
    }
    assert aside.name.startswith("her2d.before-restore-")


def test_a_missing_database_is_restored_and_its_leftover_log_is_not_applied(database, backup):
    power_cut(database, "new")
    database.unlink()
    assert restore(backup, database) is None
    assert notes(database) == ["old"]


def test_a_restore_is_refused_while_a_daemon_holds_the_database(database, backup):
    note(database, "new")
    with (
        hold_daemon_lock(database),
        pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"),
    ):
        restore(backup, database)
    assert notes(database) == ["old", "new"]


def test_a_restore_is_refused_while_another_process_has_the_database_open(
    database, backup, monkeypatch
):
    monkeypatch.setattr("her2d.db.restore._BUSY_TIMEOUT_S", 0.1)
    with closing(open_database(database)) as other:
        other.table("events").insert({"at": "now", "name": "new"})
        with pytest.raises(DatabaseError, match="Another process has"):
            restore(backup, database)
    assert notes(database) == ["old", "new"]


def damaged(backup: Path) -> None:
    with backup.open("r+b") as file:
        file.seek(4 * 4096)
        file.write(b"\xff" * 64)


def of_a_newer_her2d(backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("pragma user_version = 999")


def of_another_program(backup: Path) -> None:
    backup.unlink()
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("create table letters (text)")


def no_database(backup: Path) -> None:
    backup.write_text("a letter " * 1000)


def absent(backup: Path) -> None:
    backup.unlink()


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        (damaged, "is damaged, so nothing was restored"),
        (of_a_newer_her2d, "was written by a newer version of her2d"),
        (of_another_program, "is not a database of her2d"),
        (no_database, "cannot be restored"),
        (absent, "There is no database"),
    ],
)
def test_a_backup_that_cannot_be_restored_leaves_the_database_unchanged(
    database, backup, alter, expected
):
    alter(backup)
    with pytest.raises(DatabaseError, match=expected):
        restore(backup, database)
    assert notes(database) == ["old"]
    assert {path.name for path in database.parent.iterdir()} == {
        "her2d.sqlite",
        "her2d.sqlite.lock",
        "backups",
    }


def test_a_backup_of_another_program_with_a_schema_number_is_refused(database, backup):
    of_another_program(backup)
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("pragma user_version = 3")
    with pytest.raises(DatabaseError, match="is not a database of her2d"):
        restore(backup, database)
    assert notes(database) == ["old"]


def test_a_backup_does_not_replace_a_database_of_another_program(database, backup):
    of_another_program(database)
    with pytest.raises(DatabaseError, match="is the database of another program"):
        restore(backup, database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("letters",)]


def test_a_backup_of_an_older_her2d_is_restored_without_an_update(
    database, backup, second_migration
):
    restore(backup, database)
    assert schema_version(database) == 1


def test_a_restore_keeps_the_mode_of_the_database(database, backup):
    database.chmod(0o640)
    backup.chmod(0o600)
    restore(backup, database)
    assert database.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_database_that_root_restores_still_belongs_to_the_daemon(database, backup):
    os.chown(database, 4321, 4322)
    restore(backup, database)
    assert (database.stat().st_uid, database.stat().st_gid) == (4321, 4322)


def test_a_leftover_log_damages_a_backup_that_is_copied_by_hand(database, backup):
    """This is why a restore is a command and not a copy."""
    power_cut(database, "new")
    shutil.copy(backup, database)
    assert problems(database) != [] or notes(database) != ["old"]
