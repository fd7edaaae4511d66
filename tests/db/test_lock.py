"""One daemon for each database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from her2d.db.connection import DatabaseError, open_database
from her2d.db.lock import AlreadyRunningError, hold_daemon_lock, hold_database, require_no_daemon

HOLD = """
import sys, pathlib
from her2d.db.connection import create_if_missing
from her2d.db.lock import hold_daemon_lock, hold_database
database = pathlib.Path(sys.argv[1])
create_if_missing(database)
with hold_daemon_lock(database), hold_database(database):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(database):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_error_of_a_second_daemon_names_the_process_that_holds_the_database(tmp_path):
    database = tmp_path / "her2d.sqlite"
    with hold(database) as holder:
        with (
            pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"),
            hold_daemon_lock(database),
        ):
            pass
        holder.stdin.close()


def test_a_killed_daemon_leaves_no_lock(tmp_path):
    database = tmp_path / "her2d.sqlite"
    with hold(database) as holder:
        holder.kill()
        holder.wait()
        with hold_daemon_lock(database):
            pass


def test_the_lock_can_be_taken_again_after_a_release(tmp_path):
    for _ in range(2):
        with hold_daemon_lock(tmp_path / "her2d.sqlite"):
            pass


def start(database: Path) -> None:
    """Take both locks, as a daemon does at its start."""
    with hold_daemon_lock(database), hold_database(database):
        pass


def by_a_symbolic_link(database: Path) -> Path:
    link = database.parent / "other" / "linked.sqlite"
    link.parent.mkdir()
    link.symlink_to(database)
    return link


def by_a_hard_link(database: Path) -> Path:
    link = database.with_name("hard.sqlite")
    os.link(database, link)
    return link


def by_a_folders_link(database: Path) -> Path:
    link = database.parent.parent / "alias"
    link.symlink_to(database.parent)
    return link / database.name


def after_the_lock_file_was_deleted(database: Path) -> Path:
    database.with_name(database.name + ".lock").unlink()
    return database


@pytest.mark.parametrize(
    "named",
    [by_a_symbolic_link, by_a_hard_link, by_a_folders_link, after_the_lock_file_was_deleted],
)
def test_one_database_has_one_daemon_under_every_name(tmp_path, named):
    database = tmp_path / "state" / "her2d.sqlite"
    with hold(database) as holder:
        name = named(database)
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"):
            start(name)
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"):
            require_no_daemon(name)
        holder.stdin.close()
    start(name)


def test_another_database_in_the_same_folder_has_its_own_daemon(tmp_path):
    other = tmp_path / "other.sqlite"
    open_database(other).close()
    with hold(tmp_path / "her2d.sqlite") as holder:
        start(other)
        holder.stdin.close()


def test_a_link_in_the_lock_files_place_is_refused_and_its_target_is_unchanged(tmp_path):
    database, target = tmp_path / "her2d.sqlite", tmp_path / "target"
    target.write_text("of somebody else")
    for plant in (os.symlink, os.link):
        lock = tmp_path / "her2d.sqlite.lock"
        plant(target, lock)
        with pytest.raises(DatabaseError, match=r"her2d.sqlite.lock"), hold_daemon_lock(database):
            pass
        lock.unlink()
    assert target.read_text() == "of somebody else"


def test_a_link_in_the_databases_place_creates_nothing_where_it_leads(tmp_path):
    database, target = tmp_path / "her2d.sqlite", tmp_path / "elsewhere" / "new"
    target.parent.mkdir()
    database.symlink_to(target)
    with pytest.raises(DatabaseError, match="cannot be opened"):
        open_database(database)
    assert not target.exists()


def test_the_database_and_its_lock_are_readable_by_owner_and_group_at_most(tmp_path):
    before = os.umask(0)
    try:
        open_database(tmp_path / "her2d.sqlite").close()
        start(tmp_path / "her2d.sqlite")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"her2d.sqlite": 0o640, "her2d.sqlite.lock": 0o640}
