"""How many CPUs and threads this process may use, often fewer than the machine has."""

import math
import os
import platform
import resource
from collections.abc import Iterator, MutableMapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_OWN_STATUS = Path("/proc/self/status")

_AVX_512F = 13  # OpenCV's number of it, which has no name in Python
_MOST_FEATURES = 512  # OpenCV's numbers are smaller
_MULTIPLY_INT8 = frozenset({"AVX2", "AVX512BW", "AVX512VNNI", "AVX_VNNI", "NEON", "NEON_DOTPROD"})

# Each of these libraries has a pool with a thread for each CPU of the machine, even if the process
# may use fewer. her2d multiplies no large matrices, and its own threads call OpenCV side by side.
_OF_ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def bound_thread_pools(environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound the thread pools of the libraries, which start them when they are first imported.

    BLAS and OpenCV get one thread, and OpenMP, which torch trains with, one for each CPU that the
    process may use. A variable that is set already is left as it is. Child processes inherit all.
    """
    for variable in _OF_ONE_THREAD:
        environment.setdefault(variable, "1")
    environment.setdefault("OMP_NUM_THREADS", str(usable_cpus()))


def usable_cpus(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int:
    """Return the number of CPUs that affinity and cgroup quotas leave to this process, at least 1.

    A quota (systemd's `CPUQuota=`, a container's `--cpus`) is `cpu.max` of cgroup v2, or
    `cpu.cfs_quota_us` of v1, of the process's own cgroup or of one above it. A quota of 2.5 CPUs
    counts as 3.

    Args:
        cgroups: where the cgroup hierarchies are mounted, of version 2 or 1.
        own_cgroup: the file that names the process's cgroups, see cgroups(7).
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(cgroups, own_cgroup))]))


def processor_kind() -> str:
    """Return which processor this machine has, as far as sums of int8 depend on it.

    It is the architecture and those of its instructions that multiply int8, such as `x86_64 with
    AVX2, AVX512VNNI`: without the later ones, large sums saturate.
    """
    # The unit's sandbox hides /proc/cpuinfo; OpenCV asks the processor itself.
    import cv2

    features = (n for n in range(_MOST_FEATURES) if cv2.checkHardwareSupport(n))
    found = sorted(_MULTIPLY_INT8.intersection(map(cv2.getHardwareFeatureName, features)))
    return " with ".join(filter(None, (platform.machine(), ", ".join(found))))


def computes_512_bits() -> bool:
    """Whether this machine's processor computes 512 bits at once (AVX-512)."""
    # The unit's sandbox hides /proc/cpuinfo; OpenCV asks the processor itself.
    import cv2

    return bool(cv2.checkHardwareSupport(_AVX_512F))


def usable_tasks(cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP) -> int | None:
    """Return how many threads this process may have in all; None if nothing limits them.

    A limit is `pids.max` of the process's cgroup or of one above it (systemd's `TasksMax=`, a
    container's `--pids-limit`), of which other processes may use a part, and RLIMIT_NPROC, which
    does not apply to root.

    Args:
        cgroups: where the cgroup hierarchies are mounted, of version 2 or 1.
        own_cgroup: the file that names the process's cgroups, see cgroups(7).
    """
    limits = []
    for level in (
        *_levels(cgroups, own_cgroup),
        *_levels(cgroups / "pids", own_cgroup, "pids"),
    ):
        try:
            most = (level / "pids.max").read_text().strip()
            used = int((level / "pids.current").read_text())
        except (OSError, ValueError):
            continue  # the root has no such files
        if most != "max":
            limits.append(int(most) - used + _own_threads())
    of_user = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if os.geteuid() != 0 and of_user != resource.RLIM_INFINITY:
        limits.append(of_user)
    return min(limits, default=None)


def _own_threads() -> int:
    """Return the number of threads that this process has now."""
    for line in _OWN_STATUS.read_text().splitlines():
        if line.startswith("Threads:"):
            return int(line.split()[1])
    return 1


def _quotas(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    for level in _levels(cgroups, own_cgroup):
        try:
            quota, period = (level / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # the root has no such file, nor has version 1
        if quota != "max":
            yield int(quota) / int(period)
    for level in _levels(cgroups / "cpu", own_cgroup, "cpu"):
        try:
            quota, period = (
                (level / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
            if int(quota) > 0:  # -1 is none
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue


def _levels(mounted: Path, own_cgroup: Path, controller: str = "") -> Iterator[Path]:
    """Yield the folders of the process's cgroup and of those above it.

    Args:
        mounted: where the hierarchy is mounted.
        own_cgroup: the file that names the process's cgroups.
        controller: the one whose hierarchy of version 1 is mounted there: "8:pids:/" or
            "4:cpu,cpuacct:/". Empty for version 2, which has one line without any controllers:
            "0::/system.slice/her2d.service".
    """
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return
    entries = (line.split(":", 2) for line in lines if line.count(":") >= 2)
    names = (name for _, controllers, name in entries if controller in controllers.split(","))
    folder = mounted / next(names, "/").lstrip("/")
    for level in (folder, *folder.parents):
        if not level.is_relative_to(mounted):
            return
        yield level
