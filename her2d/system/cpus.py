"""How many CPUs this process may use, which is often fewer than the machine has."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int:
    """Return the number of CPUs that affinity and cgroup quotas leave to this process, at least 1.

    A quota is `cpu.max` of cgroup v2 (systemd's `CPUQuota=`, a container's `--cpus`), of the
    process's own cgroup or of one above it. A quota of 2.5 CPUs counts as 3.

    Args:
        cgroups: where the cgroup v2 hierarchy is mounted.
        own_cgroup: the file that names the process's cgroup, see cgroups(7).
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(cgroups, own_cgroup))]))


def _quotas(cgroups: Path, own_cgroup: Path) -> list[float]:
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return []
    # Version 2 has one hierarchy, numbered 0: "0::/system.slice/her2d.service".
    name = next((line.split("::", 1)[1] for line in lines if line.startswith("0::")), "/")
    folder = cgroups / name.lstrip("/")
    quotas = []
    for level in (folder, *folder.parents):
        if not level.is_relative_to(cgroups):
            break
        try:
            quota, period = (level / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # the root has no such file, nor has version 1
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return quotas
