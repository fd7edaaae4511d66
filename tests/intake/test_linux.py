"""What Linux says of this process and its mounts."""

import subprocess
from pathlib import Path

import pytest

from her2d.intake import mounts_below


def test_what_is_mounted_below_a_folder_is_known_by_its_own_name(tmp_path):
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
