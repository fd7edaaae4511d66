"""The real daemon when something fails."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_site import Site


@pytest.fixture
def site(tmp_path, color_bundle) -> Site:
    return Site.made(tmp_path / "site", color_bundle)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system with a size in MiB, which needs root."""
    folder = tmp_path / "small"
    mounted = []

    def mount(mib: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small file system cannot be mounted here: {error}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
