"""Boot Debian with systemd as PID 1 in a container of systemd-nspawn, for tests of an installation.

It has no network but the cable that `connect` puts between two of them. What it writes goes to a
folder of its own, above the folders that it was given.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 100

# In a mount namespace, so that nothing stays mounted whatever ends the test. With bpf(2), which
# systemd-nspawn denies: without it systemd ignores IPAddressDeny= and says nothing.
_BOOT = """
lower=$1 folder=$2 cgroups=$3
shift 3
for cgroup in $cgroups; do echo $$ > "$cgroup/cgroup.procs"; done
layers="lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work"
mount -t overlay overlay -o "$layers" "$folder/root"
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=read-only \
    --machine=her2d --system-call-filter=bpf --directory="$folder/root" "$@" --boot
"""
_INSIDE = (
    "env",
    "-i",
    "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)


def missing() -> str:
    """Return why no container can be booted on this machine; empty where one can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for program in ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not Path("/sys/fs/cgroup").is_mount():
        return "no cgroups are mounted, and systemd cannot work without"
    return ""


needs_container = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@dataclass(frozen=True)
class Machine:
    """A container that has booted; `leader` is its PID 1, as this machine numbers it."""

    leader: int

    def try_run(self, *command: object, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command in it, and return how that ended."""
        as_user = () if user == "root" else ("runuser", "-u", user, "--")
        inside = ("nsenter", "-t", str(self.leader), "-a", "-w/", *_INSIDE, *as_user)
        return subprocess.run(
            [*inside, *map(str, command)], capture_output=True, text=True, check=False
        )

    def run(self, *command: object, user: str = "root") -> str:
        """Run a command in it that must succeed, and return what it prints."""
        done = self.try_run(*command, user=user)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def shell(self, script: str, user: str = "root") -> str:
        return self.run("sh", "-euc", script, user=user)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def journal(self) -> str:
        self.try_run("journalctl", "--sync")
        return self.try_run("journalctl", "--no-pager", "-o", "cat", "-u", "her2d").stdout

    def events(self, event: str) -> list[str]:
        """The lines of the daemon's log that have this event."""
        return [line for line in self.journal().splitlines() if event in line]

    def wait_for_event(self, event: str, times: int = 1, patience_s: float = PATIENCE_S) -> None:
        """Wait until the daemon has logged an event so often."""
        self.wait_until(lambda: len(self.events(event)) >= times, patience_s)

    def wait_until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        begun = time.monotonic()
        while not condition():
            waited = time.monotonic() - begun
            assert waited < patience_s, self.journal()
            # To ask starts processes there, which hold up what is waited for.
            time.sleep(min(0.3 + waited / 10, 2))

    def put(self, file: Path, path: str) -> None:
        """Copy a file of this machine to a path in it, for everybody to read."""
        there = Path(f"/proc/{self.leader}/root{path}")
        shutil.copyfile(file, there)
        there.chmod(0o644)


def find_libraries(machine: Machine, folder: str) -> None:
    """Let the installation there import what a folder has and it lacks."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    machine.shell(f"echo {folder} > /opt/her2d/lib/{version}/site-packages/shown.pth")


def connect(first: Machine, second: Machine, *addresses: Sequence[str]) -> None:
    """Put a network cable between two machines.

    Args:
        addresses: those of the first machine and those of the second, with their prefix length.
            The first of each is the one that the machine sends from.
    """
    first_end, second_end = (
        ("name", "cable", "netns", str(each.leader)) for each in (first, second)
    )
    _ip("link", "add", *first_end, "type", "veth", "peer", *second_end)
    for machine, own in zip((first, second), addresses, strict=True):
        for address in own:
            _ip("address", "add", address, "dev", "cable", inside=machine)
        _ip("link", "set", "cable", "up", inside=machine)


def _ip(*words: str, inside: Machine | None = None) -> None:
    network = ("nsenter", "-t", str(inside.leader), "--net") if inside else ()
    done = subprocess.run([*network, "ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"


def bootstrap(folder: Path, packages: Sequence[str]) -> None:
    """Install the release of Debian that this machine runs into `folder`, with `packages`."""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    done = subprocess.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            release["VERSION_CODENAME"],
            str(folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def booted(lower: Sequence[Path], folder: Path, *shown: Path | str) -> Iterator[Machine]:
    """Boot what lies in the folders `lower`, the highest first.

    Args:
        folder: what the machine writes is in its folder `upper`.
        shown: what it sees of this machine, read-only: at the same path, or at B for "A:B".
    """
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    binds = [f"--bind-ro={path}" for path in shown]
    command = ["unshare", "--mount", "--propagation=private", "sh", "-euc", _BOOT, "sh"]
    with (folder / "console").open("wb") as console, _own_cgroups() as cgroups:
        arguments = [":".join(map(str, lower)), str(folder), " ".join(map(str, cgroups)), *binds]
        container = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        try:
            machine = Machine(_leader_of(container, folder / "console"))
            machine.run("sh", "-c", "systemctl is-system-running --wait || systemctl --failed")
            yield machine
        finally:
            container.send_signal(signal.SIGTERM)  # a power button: the container shuts down
            try:
                container.wait(PATIENCE_S)
            finally:
                container.kill()
                container.wait()


@contextlib.contextmanager
def _own_cgroups() -> Iterator[list[Path]]:
    """Make a cgroup in each hierarchy, so that containers do not share one."""
    name = f"her2d-test-{os.getpid()}-{time.monotonic_ns()}"
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]
    cgroups = [root / name for root in roots if os.access(root, os.W_OK)]
    for cgroup in cgroups:
        cgroup.mkdir()
        for limit in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1
            if (cgroup / limit).exists() and not (cgroup / limit).read_text().strip():
                (cgroup / limit).write_text((cgroup.parent / limit).read_text())
    try:
        yield cgroups
    finally:
        for cgroup in cgroups:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                Path(folder).rmdir()


def _leader_of(container: subprocess.Popen[bytes], console: Path) -> int:
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert container.poll() is None, console.read_text(errors="replace")
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n" and _listens(child):
                    return int(child)
        time.sleep(0.2)
    raise AssertionError(console.read_text(errors="replace"))


def _listens(leader: str) -> bool:
    return Path(f"/proc/{leader}/root/run/systemd/private").is_socket()
