"""A share that can die and hang: a folder mounted over FUSE, as sshfs, davfs and rclone are."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon_site import PATIENCE_S

_BINDFS = shutil.which("bindfs")


class Share:
    """`behind` is the folder on the other machine, `mounted` what this one sees of it."""

    def __init__(self, behind: Path, mounted: Path) -> None:
        self.behind = behind
        self.mounted = mounted
        self._server: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Mount it; a cache would answer for a server that does not."""
        options = ("-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0,direct_io")
        self._server = subprocess.Popen(
            [str(_BINDFS), "-f", *options, str(self.behind), str(self.mounted)],
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self.mounted.is_mount():
            if self._server.poll() is not None:
                said = self._server.stderr.read().decode() if self._server.stderr else ""
                pytest.skip(f"FUSE cannot be had here: {said}")
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def die(self) -> None:
        """End the server: from now on nothing of the share can be reached."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(PATIENCE_S)

    def come_back(self) -> None:
        """Mount anew what had died."""
        self._unmount()
        self.connect()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the server answer nobody for a while."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server and the mount, whatever uses it."""
        self.die()
        self._unmount()

    def _unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.mounted)], check=False, capture_output=True)


@contextmanager
def share(behind: Path, mounted: Path) -> Iterator[Share]:
    """A connected share of `behind`, a new folder, seen at `mounted`, which is there."""
    if _BINDFS is None:
        pytest.skip("bindfs is not installed (Debian package bindfs)")
    behind.mkdir()
    found = Share(behind, mounted)
    found.connect()
    try:
        yield found
    finally:
        found.close()
