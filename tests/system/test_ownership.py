"""Whose a file is, and what somebody else is told."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from her2d.db.backup import back_up
from her2d.db.connection import DatabaseError, open_database, open_readonly, schema_version
from her2d.db.integrity import problems
from her2d.db.lock import held_by_us, require_unheld
from her2d.db.restore import restore
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Verdict
from her2d.doctor.inboxes import inbox_findings
from her2d.settings import ResultsSettings, SettingsError, find_config, load_settings
from her2d.system.ownership import who_may

NOBODY, DAEMON, LABORATORY = 65534, 4321, 4322

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")


@pytest.fixture
def state(tmp_path) -> Path:
    """The daemon's folder, as systemd makes it: nobody else may enter."""
    folder = tmp_path / "state"
    folder.mkdir()
    open_database(folder / "her2d.sqlite").close()
    for path in (folder, folder / "her2d.sqlite"):
        os.chown(path, DAEMON, LABORATORY)
    folder.chmod(0o750)
    # pytest's own folders are closed to others as well.
    ours = Path(tempfile.gettempdir())
    for parent in takewhile(lambda parent: parent != ours, folder.parents):
        parent.chmod(0o755)
    return folder


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
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
        lambda database: held_by_us(database).__enter__(),
    ],
    ids=["read", "write", "version", "check", "back up", "restore", "run"],
)
def test_somebody_who_may_not_is_told_as_whom_to_run_it(state, command: Callable[[Path], object]):
    with as_somebody_else(), pytest.raises(DatabaseError) as refused:
        command(state / "her2d.sqlite")
    assert "sudo -u #4321 her2d" in str(refused.value)


@only_root
def test_somebody_who_may_not_read_the_settings_is_told_whose_they_are(tmp_path, state):
    config = state.parent / "config.toml"
    config.write_text("")
    os.chown(config, 0, LABORATORY)
    config.chmod(0o640)
    with as_somebody_else(), pytest.raises(SettingsError, match="sudo -u #4322 her2d"):
        load_settings(config)


@only_root
def test_doctor_tells_somebody_who_may_not_look_instead_of_failing(state):
    settings = ResultsSettings(database=state / "her2d.sqlite", heatmaps=state / "heatmaps")
    with as_somebody_else():
        found = [*storage_findings(settings), *inbox_findings(state / "inbox")]
    assert [finding.check for finding in found if finding.verdict is Verdict.FAILURE] == [
        "database's folder",
        "heatmaps' folder",
        "database",
        f"inbox {state / 'inbox'}",
    ]


@only_root
def test_a_settings_file_in_a_folder_that_is_closed_is_none(state, monkeypatch):
    """`sudo -u her2d her2d ...` starts in root's own folder."""
    monkeypatch.chdir(state)
    with as_somebody_else():
        assert find_config() is None


@only_root
def test_what_root_locks_can_be_locked_by_the_daemon(state):
    with held_by_us(state / "her2d.sqlite"):
        lock = state / "her2d.sqlite.lock"
        assert (lock.stat().st_uid, lock.stat().st_gid) == (DAEMON, LABORATORY)


@only_root
def test_a_backup_that_root_makes_is_the_daemons_and_closed_to_the_same_others(state):
    (state / "her2d.sqlite").chmod(0o640)
    copy = back_up(state / "her2d.sqlite", state / "backups")
    for path in (copy, copy.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (DAEMON, LABORATORY)
    assert copy.stat().st_mode & 0o777 == 0o640


@only_root
def test_a_folder_of_backups_that_is_there_stays_whose_it_is(state):
    (state / "backups").mkdir()
    back_up(state / "her2d.sqlite", state / "backups")
    assert (state / "backups").stat().st_uid == 0


@only_root
def test_a_database_that_root_makes_in_the_daemons_folder_is_the_daemons(state):
    with contextlib.closing(open_database(state / "new.sqlite")) as db:
        db.table("events").insert({"at": "now", "name": "noise"})
        for path in state.glob("new.sqlite*"):
            assert (path.stat().st_uid, path.stat().st_gid) == (DAEMON, LABORATORY)


@only_root
def test_doctor_tells_a_database_that_root_made_from_one_the_daemon_can_write(state):
    database = state / "her2d.sqlite"
    os.chown(database, 0, 0)
    database.chmod(0o644)
    state.chmod(0o777)
    settings = ResultsSettings(database=database, heatmaps=state / "heatmaps")
    with as_somebody_else():
        found = list(storage_findings(settings))[-1]
    assert found.verdict is Verdict.FAILURE
    assert found.remedy == f"If a command run as root created it, run chown her2d:her2d {database}*"


def test_looking_for_a_daemon_leaves_no_lock_behind(tmp_path):
    require_unheld(tmp_path / "her2d.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_what_belongs_to_root_is_said_to():
    assert who_may(Path("/")) == "It belongs to root."
