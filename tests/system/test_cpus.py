"""The number of CPUs that the process may really use."""

import os

import pytest

from her2d.system.cpus import usable_cpus

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


def test_a_machine_without_cgroups_has_its_affinity(tmp_path):
    assert usable_cpus(tmp_path / "missing", tmp_path / "neither") == ALLOWED
