"""When folders are searched, and which folders are polled."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from her2d.intake.inbox import Inbox
from her2d.settings import IntakeSettings
from her2d.system.filesystems import _SILENT, needs_polling
from her2d.system.linux import file_system_type


@pytest.fixture
def sub_mount(folder, tmp_path) -> Iterator[Path]:
    """A folder of a local inbox, with an overlay file system mounted on it."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    mounted = folder / "remote"
    mounted.mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    try:
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(mounted)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"an overlay cannot be mounted here: {error}")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=False)


@pytest.fixture
def local(folder) -> Path:
    if file_system_type(folder) in _SILENT:
        pytest.skip("temporary files lie on a file system that is polled anyway")
    return folder


def inbox_of(jobs, clock, check, **settings) -> Inbox:
    return Inbox(jobs, IntakeSettings(**settings), check, clock)


def names(jobs):
    return sorted(job.path.name for job in jobs.in_state())


def test_a_file_systems_type_is_the_one_that_stat_prints(tmp_path):
    printed = subprocess.run(
        ["stat", "--file-system", "--format", "%t", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert file_system_type(tmp_path) == int(printed.stdout, 16)


def test_the_file_system_type_of_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_system_type(tmp_path / "absent")


def test_a_local_folder_is_not_polled(local):
    assert not needs_polling(local, "auto")


def test_the_setting_takes_precedence_over_the_file_system(local):
    assert needs_polling(local, "poll")
    assert not needs_polling(Path("/nonexistent"), "events")


def test_a_sub_mount_of_a_local_inbox_is_polled_and_the_rest_is_not(
    jobs, local, sub_mount, clock, check
):
    inbox = inbox_of(jobs, clock, check, inboxes=(local,), sweep_s=1000, poll_s=10)
    inbox.sweep()
    assert inbox.sweeps.polled == {sub_mount}
    (sub_mount / "remote.tif").write_bytes(b"x")
    (local / "local.tif").write_bytes(b"x")
    clock.pass_(10)
    inbox.sweep()
    assert names(jobs) == ["remote.tif"]
    clock.pass_(1000)
    inbox.sweep()
    assert names(jobs) == ["local.tif", "remote.tif"]


def test_a_folder_is_not_polled_any_more_once_its_file_system_is_unmounted(
    jobs, local, sub_mount, clock, check
):
    inbox = inbox_of(jobs, clock, check, inboxes=(local,), sweep_s=100)
    inbox.sweep()
    subprocess.run(["umount", str(sub_mount)], check=True)
    clock.pass_(100)
    inbox.sweep()
    assert inbox.sweeps.polled == set()


def test_with_watch_poll_the_whole_inbox_is_searched_every_poll_s(jobs, folder, clock, check):
    inbox = inbox_of(jobs, clock, check, inboxes=(folder,), watch="poll", sweep_s=1000, poll_s=5)
    inbox.sweep()
    (folder / "a.tif").write_bytes(b"x")
    clock.pass_(4)
    inbox.sweep()
    assert names(jobs) == []
    clock.pass_(1)
    inbox.sweep()
    assert names(jobs) == ["a.tif"]


def test_an_unreadable_folder_does_not_hide_the_files_of_others(
    jobs, folder, clock, check, monkeypatch
):
    for name in ("a", "b", "c"):
        (folder / name).mkdir()
        (folder / name / f"{name}.tif").write_bytes(b"x")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    inbox = inbox_of(jobs, clock, check, inboxes=(folder,), sweep_s=60)
    monkeypatch.setattr(os, "scandir", refusing)
    inbox.sweep()
    assert names(jobs) == ["a.tif", "c.tif"]
    assert inbox.sweeps.unreadable == {folder / "b"}
    monkeypatch.undo()
    clock.pass_(60)
    inbox.sweep()
    assert names(jobs) == ["a.tif", "b.tif", "c.tif"]
    assert inbox.sweeps.unreadable == set()


def test_new_settings_apply_to_the_next_sweep(jobs, folder, clock, check, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.tif").write_bytes(b"x")
    inbox = inbox_of(jobs, clock, check, inboxes=(folder,))
    inbox.sweep()
    inbox.apply(IntakeSettings(inboxes=(folder, other)))
    inbox.sweep()
    assert names(jobs) == ["b.tif"]


def test_if_too_many_folders_are_requested_everything_is_swept(jobs, folder, clock, check):
    inbox = inbox_of(jobs, clock, check, inboxes=(folder,), sweep_s=1000)
    inbox.sweep()
    (folder / "a.tif").write_bytes(b"x")
    for number in range(1100):
        inbox.sweeps.request(folder / str(number), folder)
    inbox.sweep()
    assert names(jobs) == ["a.tif"]
