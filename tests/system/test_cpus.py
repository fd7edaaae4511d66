"""The number of CPUs that the process may really use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from her2d.system.cpus import (
    bound_thread_pools,
    processor_kind,
    usable_cpus,
    usable_tasks,
)

ALLOWED = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroup(tmp_path):
    """The folder of a service's cgroup, and a function that counts the CPUs of a process in it."""
    own = tmp_path / "cgroup"
    own.write_text("0::/system.slice/her2d.service\n")
    folder = tmp_path / "fs" / "system.slice" / "her2d.service"
    folder.mkdir(parents=True)
    return folder, lambda: usable_cpus(tmp_path / "fs", own)


def test_without_a_quota_it_is_the_affinity(cgroup):
    folder, cpus = cgroup
    assert cpus() == ALLOWED
    (folder / "cpu.max").write_text("max 100000\n")
    assert cpus() == ALLOWED


def test_a_quota_below_the_affinity_counts_and_is_rounded_up(cgroup, monkeypatch):
    folder, cpus = cgroup
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (folder / "cpu.max").write_text("250000 100000\n")
    assert cpus() == 3
    (folder / "cpu.max").write_text("1000 100000\n")
    assert cpus() == 1


def test_the_smallest_quota_of_all_levels_counts(cgroup, monkeypatch):
    folder, cpus = cgroup
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (folder / "cpu.max").write_text("800000 100000\n")
    (folder.parent / "cpu.max").write_text("400000 100000\n")
    assert cpus() == 4


@pytest.mark.parametrize(
    "line", ["4:cpu,cpuacct:/docker/lab\n", "1:cpu:/docker/lab\n", "2:cpuacct,cpu:/docker/lab\n"]
)
def test_a_quota_of_cgroup_version_1_counts(tmp_path, monkeypatch, line):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    own = tmp_path / "cgroup"
    own.write_text(f"9:cpuset:/elsewhere\n{line}0::/\n")
    folder = tmp_path / "fs" / "cpu" / "docker" / "lab"
    folder.mkdir(parents=True)

    def quota(level: Path, text: str) -> None:
        (level / "cpu.cfs_quota_us").write_text(text)
        (level / "cpu.cfs_period_us").write_text("50000\n")

    quota(folder, "-1\n")
    assert usable_cpus(tmp_path / "fs", own) == 64
    quota(folder, "125000\n")
    assert usable_cpus(tmp_path / "fs", own) == 3
    quota(folder.parent, "100000\n")
    assert usable_cpus(tmp_path / "fs", own) == 2


def test_a_container_that_sees_only_its_own_cgroup_of_version_1_has_its_quota(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    own, mounted = tmp_path / "cgroup", tmp_path / "fs" / "cpu"
    own.write_text("4:cpu,cpuacct:/docker/1f2e\n")
    mounted.mkdir(parents=True)
    (mounted / "cpu.cfs_quota_us").write_text("400000\n")
    (mounted / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path / "fs", own) == 4


@pytest.fixture
def real_cgroup():
    """The list of processes of a cgroup of this machine's kernel, which leaves them half a CPU."""
    folder = Path("/sys/fs/cgroup/cpu") / f"her2d-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        pytest.skip("no cgroup of version 1 can be made here")
    yield folder / "cgroup.procs"
    folder.rmdir()


@pytest.mark.skipif(ALLOWED == 1, reason="one CPU cannot be divided")
def test_a_process_in_a_real_cgroup_has_its_quota(real_cgroup):
    script = f"""
import os
from pathlib import Path
Path({str(real_cgroup)!r}).write_text(str(os.getpid()))
from her2d.system.cpus import usable_cpus
print(usable_cpus())
"""
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_machine_without_cgroups_has_its_affinity(tmp_path):
    assert usable_cpus(tmp_path / "missing", tmp_path / "neither") == ALLOWED


def test_the_least_limit_of_tasks_of_all_levels_counts_without_what_others_use(tmp_path):
    own, folder = tmp_path / "cgroup", tmp_path / "fs" / "lab" / "her2d"
    folder.mkdir(parents=True)
    own.write_text("0::/lab/her2d\n")
    for level, most, used in ((folder, "max", 5), (folder.parent, "300", 105)):
        (level / "pids.max").write_text(f"{most}\n")
        (level / "pids.current").write_text(f"{used}\n")
    own_threads = len(list(Path("/proc/self/task").iterdir()))
    assert usable_tasks(tmp_path / "fs", own) == 300 - 105 + own_threads


def test_a_limit_of_tasks_of_cgroup_version_1_counts(tmp_path):
    own, folder = tmp_path / "cgroup", tmp_path / "fs" / "pids" / "lab"
    folder.mkdir(parents=True)
    own.write_text("8:pids:/lab\n3:cpu:/\n0::/\n")
    (folder / "pids.max").write_text("100\n")
    (folder / "pids.current").write_text("0\n")
    assert usable_tasks(tmp_path / "fs", own) >= 100


def test_without_a_limit_of_tasks_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert usable_tasks(tmp_path / "missing", tmp_path / "neither") is None


def test_what_the_user_set_for_a_library_is_left_as_it_is():
    environment = {"OPENBLAS_NUM_THREADS": "3"}
    bound_thread_pools(environment)
    assert environment["OPENBLAS_NUM_THREADS"] == "3"
    assert environment["OPENCV_FOR_THREADS_NUM"] == "1"
    assert environment["OMP_NUM_THREADS"] == str(usable_cpus())


def without_cpuinfo(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where /proc/cpuinfo is hidden, as `ProcSubset=pid` of the unit hides it."""
    hidden = 'mount -t proc -o subset=pid proc /proc && test ! -e /proc/cpuinfo && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "-p", "-f", "sh", "-c", hidden, "-", *command],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(
    shutil.which("unshare") is None or without_cpuinfo("true").returncode != 0,
    reason="this user may not mount /proc",
)
def test_the_processor_is_the_same_for_the_daemon_in_its_sandbox_and_for_commands():
    script = "from her2d.system.cpus import processor_kind; print(processor_kind())"
    found = without_cpuinfo(sys.executable, "-c", script)
    kind = processor_kind()
    assert (found.returncode, found.stdout.strip()) == (0, kind), found.stderr
    assert kind.startswith(f"{os.uname().machine} with ")
