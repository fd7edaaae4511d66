"""A cluster of Ray on this machine, and the processor time that each part of it takes."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

_STORE_BYTES = 80 * 2**20  # the least that Ray takes


@contextmanager
def local_cluster(nodes: int, *, cpus: int = 1) -> Iterator[str]:
    """Start a head without CPUs, and nodes with some; yield the head's address."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES)
        yield str(cluster.address)
    finally:
        session = cluster.head_node.get_session_dir_path()
        cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


PARTS = ("this process", "driver process", "actors", "Ray itself")

_Taken = Mapping[str, float]


def cpu_by_part() -> _Taken:
    """Return the seconds of processor time that this process and what it started took so far."""
    found = dict.fromkeys(PARTS, 0.0)
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        try:
            command = " ".join(process.cmdline())
            taken = process.cpu_times()
        except psutil.Error:
            continue  # it has ended
        part = "Ray itself"
        if process == here:
            part = "this process"
        elif "SlideActor" in command:
            part = "actors"
        elif "multiprocessing" in command:
            part = "driver process"
        found[part] += taken.user + taken.system
        if process != here:  # its children that ended are of its kind
            found[part] += taken.children_user + taken.children_system
    return found


def cpu_since(before: _Taken) -> _Taken:
    """Return what each part took since `cpu_by_part` returned `before`."""
    return {part: taken - before[part] for part, taken in cpu_by_part().items()}
