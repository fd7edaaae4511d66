"""What Linux reports about mounts and file systems."""

import os
import subprocess
from pathlib import Path

import pytest

from her2d.system import linux
from her2d.system.file_identity import FileState
from her2d.system.linux import file_systems, mounts_below


def test_mounts_below_a_folder_are_found_even_with_escaped_names(tmp_path):
    mounted = tmp_path / "inbox" / "scanner 1\\new"
    mounted.mkdir(parents=True)
    (tmp_path / "inbox2").mkdir()
    command = ["mount", "-t", "tmpfs", "tmpfs", str(mounted)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        assert mounts_below(tmp_path / "inbox") == [mounted]
        assert mounts_below(mounted) == mounts_below(tmp_path / "inbox2") == []
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_everything_is_mounted_below_the_root():
    assert Path("/proc") in mounts_below(Path("/"))


def test_file_systems_are_identified_by_their_device():
    lines = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "41 22 8:17 / /mnt/scanner\\040disk rw,nosuid shared:7 master:2 - exfat /dev/sdb1 rw",
        "42 22 0:45 / /mnt/share rw - cifs //server/scans rw",
    )
    found = file_systems(lines)
    assert found[os.makedev(8, 17)] == "exfat"
    assert found[os.makedev(8, 1)] == "ext4"
    assert found[os.makedev(0, 45)] == "cifs"


@pytest.fixture
def on_file_system(tmp_path, monkeypatch):
    """Return a function that gives the state of a file on a file system of that type."""

    def state(kind: str) -> FileState:
        (tmp_path / "a.tif").touch()
        device = (tmp_path / "a.tif").stat().st_dev
        linux._types_in.cache_clear()
        monkeypatch.setattr(linux, "file_systems", lambda _: {device: kind})
        return FileState.of(tmp_path / "a.tif")

    yield state
    linux._types_in.cache_clear()


def test_the_inode_is_unknown_on_a_disk_that_stores_no_inode_numbers(on_file_system):
    assert on_file_system("exfat").inode == 0


@pytest.mark.parametrize("kind", ["ext4", "xfs", "cifs", "nfs4", "a subvolume"])
def test_the_change_time_is_known_where_the_file_system_keeps_it(on_file_system, tmp_path, kind):
    found = on_file_system(kind)
    assert found.ctime_ns == (tmp_path / "a.tif").stat().st_ctime_ns


@pytest.mark.parametrize("kind", ["vfat", "exfat", "fuse.sshfs", "fuseblk"])
def test_the_change_time_is_unknown_where_it_may_be_anything(on_file_system, kind):
    assert on_file_system(kind).ctime_ns == 0


def test_every_file_system_of_this_machine_can_be_identified():
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    assert len(file_systems(lines)) > 1
