"""A network share that can fail and hang, simulated by a FUSE mount like those of sshfs."""

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
    """A folder `behind` on the server, which is mounted at `mounted`."""

    def __init__(self, behind: Path, mounted: Path) -> None:
        self.behind = behind
        self.mounted = mounted
        self._server: subprocess.Popen[bytes] | None = None

    def connect(self, *rate: str) -> None:
        """Mount the share without caches, which would hide that the server does not answer."""
        options = ("-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0,direct_io", *rate)
        self._server = subprocess.Popen(
            [str(_BINDFS), "-f", *options, str(self.behind), str(self.mounted)],
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self.mounted.is_mount():
            if self._server.poll() is not None:
                error = self._server.stderr.read().decode() if self._server.stderr else ""
                pytest.skip(f"FUSE is not available: {error}")
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def die(self) -> None:
        """Kill the server, so that every access to the share fails."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(PATIENCE_S)

    def slow_down(self, bytes_per_s: int) -> None:
        """Mount the share again, so slow that a file is certainly being read for a while."""
        self.die()
        self._unmount()
        self.connect(f"--read-rate={bytes_per_s}")

    def come_back(self) -> None:
        """Mount the share again after `die`."""
        self._unmount()
        self.connect()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop the server from answering while in the context."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the server and unmount the share, even if it is in use."""
        self.die()
        self._unmount()

    def _unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.mounted)], check=False, capture_output=True)


@contextmanager
def share(behind: Path, mounted: Path) -> Iterator[Share]:
    """Create the folder `behind` and mount it at the existing folder `mounted`."""
    if _BINDFS is None:
        pytest.skip("bindfs is not installed (Debian package bindfs)")
    behind.mkdir()
    found = Share(behind, mounted)
    found.connect()
    try:
        yield found
    finally:
        found.close()
