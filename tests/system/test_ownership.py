"""The owners of files, and the errors that other users get."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from her2d.db.backup import back_up
from her2d.db.connection import (
    DatabaseError,
    leave_readable,
    open_database,
    open_readonly,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.db.lock import hold_daemon_lock, require_no_daemon
from her2d.db.restore import restore
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Severity
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.permissions import user
from her2d.settings import ResultsSettings, Settings, SettingsError, find_config, load_settings
from her2d.system.ownership import access_hint, copy_owner

NOBODY, DAEMON, LABORATORY = 65534, 4321, 4322

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def state(tmp_path) -> Path:
    """The state folder of the daemon, which is closed to others as systemd creates it."""
    folder = tmp_path / "state"
    folder.mkdir()
    open_database(folder / "her2d.sqlite").close()
    for path in (folder, folder / "her2d.sqlite"):
        os.chown(path, DAEMON, LABORATORY)
    folder.chmod(0o750)
    # The folders of pytest are also closed to others.
    ours = Path(tempfile.gettempdir())
    for parent in takewhile(lambda parent: parent != ours, folder.parents):
        parent.chmod(0o755)
    return folder


@contextlib.contextmanager
def as_another_user() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@only_root
@pytest.mark.parametrize(
    "command",
    [
        open_readonly,
        open_database,
        schema_version,
        problems,
        lambda database: back_up(database, database.parent / "backups"),
        lambda database: restore(database, database),
        lambda database: hold_daemon_lock(database).__enter__(),
    ],
    ids=["read", "write", "version", "check", "back up", "restore", "run"],
)
def test_an_error_of_permission_names_the_user_to_run_as(state, command: Callable[[Path], object]):
    with as_another_user(), pytest.raises(DatabaseError) as refused:
        command(state / "her2d.sqlite")
    assert "sudo -u #4321 her2d" in str(refused.value)


@only_root
def test_the_error_for_unreadable_settings_names_their_owner(tmp_path, state):
    config = state.parent / "config.toml"
    config.write_text("# the defaults\n")
    os.chown(config, 0, LABORATORY)
    config.chmod(0o640)
    with as_another_user(), pytest.raises(SettingsError, match="sudo -u #4322 her2d"):
        load_settings(config)


@only_root
def test_doctor_reports_missing_permissions_as_findings(state):
    results = ResultsSettings(database=state / "her2d.sqlite", heatmaps=state / "heatmaps")
    with as_another_user():
        found = [*storage_findings(Settings(results=results)), *inbox_findings(state / "inbox")]
    assert [finding.check for finding in found if finding.severity is Severity.FAILURE] == [
        "database's folder",
        "heatmaps' folder",
        "database",
        f"inbox {state / 'inbox'}",
    ]


@only_root
def test_a_settings_file_in_an_unreadable_folder_counts_as_missing(state, monkeypatch):
    """`sudo -u her2d her2d ...` starts in the home folder of root."""
    monkeypatch.chdir(state)
    with as_another_user():
        assert find_config() is None


@only_root
def test_a_lock_file_that_root_creates_belongs_to_the_daemon(state):
    with hold_daemon_lock(state / "her2d.sqlite"):
        lock = state / "her2d.sqlite.lock"
        assert (lock.stat().st_uid, lock.stat().st_gid) == (DAEMON, LABORATORY)


@only_root
def test_a_backup_that_root_makes_has_the_owner_and_mode_of_the_database(state):
    (state / "her2d.sqlite").chmod(0o640)
    copy = back_up(state / "her2d.sqlite", state / "backups")
    for path in (copy, copy.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (DAEMON, LABORATORY)
    assert copy.stat().st_mode & 0o777 == 0o640


@only_root
def test_an_existing_folder_of_backups_keeps_its_owner(state):
    (state / "backups").mkdir()
    back_up(state / "her2d.sqlite", state / "backups")
    assert (state / "backups").stat().st_uid == 0


@only_root
def test_a_database_that_root_creates_belongs_to_the_owner_of_its_folder(state):
    with contextlib.closing(open_database(state / "new.sqlite")) as db:
        db.table("events").insert({"at": "now", "name": "noise"})
        for path in state.glob("new.sqlite*"):
            assert (path.stat().st_uid, path.stat().st_gid) == (DAEMON, LABORATORY)


@only_root
def test_doctor_reports_a_database_that_belongs_to_root(state):
    database = state / "her2d.sqlite"
    os.chown(database, 0, 0)
    database.chmod(0o644)
    state.chmod(0o777)
    results = ResultsSettings(database=database, heatmaps=state / "heatmaps")
    with as_another_user():
        name = user()
        found = list(storage_findings(Settings(results=results)))[-1]
    assert found.severity is Severity.FAILURE
    assert (
        found.remedy
        == f"If a command run as root created it, run sudo chown -R {name}: {database}*"
    )


def test_checking_for_a_daemon_does_not_create_a_lock(tmp_path):
    require_no_daemon(tmp_path / "her2d.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_the_owner_of_a_path_is_named():
    assert access_hint(Path("/")) == "It belongs to root."


@contextlib.contextmanager
def as_a_member_of_the_laboratory() -> Iterator[None]:
    os.setegid(LABORATORY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def events(database: Path) -> int:
    with contextlib.closing(open_readonly(database)) as db:
        return int(db.execute("select count(*) from events").fetchone()[0])


@pytest.fixture
def read_by_a_group(state) -> Path:
    """A database with one event, which its group may read."""
    database = state / "her2d.sqlite"
    database.chmod(0o640)
    with contextlib.closing(open_database(database)) as db:
        db.table("events").insert({"at": "now", "name": "first"})
    return database


@only_root
@pytest.mark.parametrize(
    "prepare", [lambda _: None, leave_readable], ids=["without a log", "with the log of a stop"]
)
def test_a_group_of_readers_reads_while_the_daemon_is_stopped(read_by_a_group, prepare):
    prepare(read_by_a_group)
    with as_a_member_of_the_laboratory():
        assert events(read_by_a_group) == 1
        assert schema_version(read_by_a_group) > 0
        assert problems(read_by_a_group) == []


@only_root
def test_a_group_of_readers_reads_while_the_daemon_runs(read_by_a_group):
    with contextlib.closing(open_database(read_by_a_group)) as daemon:
        for path in read_by_a_group.parent.glob("her2d.sqlite-*"):
            os.chown(path, DAEMON, LABORATORY)
        daemon.table("events").insert({"at": "now", "name": "second"})
        with as_a_member_of_the_laboratory():
            assert events(read_by_a_group) == 2


@only_root
def test_a_reader_is_interrupted_if_the_daemon_starts_to_write_meanwhile(read_by_a_group):
    with as_a_member_of_the_laboratory():
        reader = open_readonly(read_by_a_group)
    with contextlib.closing(open_database(read_by_a_group)) as daemon:
        daemon.table("events").insert({"at": "now", "name": "second"})
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            reader.execute(
                "with recursive n(x) as (select 1 union all select x + 1 from n limit 1000)"
                " select count(*) from n, events"
            ).fetchall()
    reader.close()
    with as_a_member_of_the_laboratory():
        assert events(read_by_a_group) == 2


@only_root
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_settings_that_another_user_can_change_are_not_obeyed(tmp_path, monkeypatch, whose):
    config = tmp_path / "config.toml"
    config.write_text("# the defaults\n")
    os.chown(config if whose == "file" else tmp_path, DAEMON, DAEMON)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"user #4321 can change it.*--config"):
        find_config()
    assert find_config(config) == config


@only_root
def test_settings_of_a_link_to_another_users_file_are_not_obeyed(tmp_path, monkeypatch):
    theirs = tmp_path / "theirs.toml"
    theirs.write_text("# the defaults\n")
    os.chown(theirs, DAEMON, DAEMON)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.toml").symlink_to(theirs)
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError, match="is not used"):
        find_config()


def test_ones_own_settings_in_the_current_folder_are_obeyed(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("# the defaults\n")
    monkeypatch.chdir(tmp_path)
    assert find_config() == Path("config.toml")


@only_root
def test_an_owner_is_not_given_through_a_planted_link(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "theirs"
    mine.touch()
    folder.mkdir()
    os.chown(folder, DAEMON, LABORATORY)
    (folder / "planted").symlink_to(mine)
    copy_owner(folder / "planted", folder)
    assert mine.stat().st_uid == 0
