"""A server with 64 CPUs whose unit may have 256 tasks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_site import Site

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

LIMIT, CPUS = 256, 64

# What every library asks, when it decides how many threads to start.
CLAIMS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>
int get_nprocs(void) { return 64; }
int get_nprocs_conf(void) { return 64; }
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    memset(set, 0, size);
    for (int cpu = 0; cpu < 64; cpu++) CPU_SET_S(cpu, size, set);
    return 0;
}
long sysconf(int name) {
    if (name == _SC_NPROCESSORS_CONF || name == _SC_NPROCESSORS_ONLN) return 64;
    long (*really)(int) = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return really(name);
}
"""


@pytest.fixture(scope="module")
def claims_64_cpus(tmp_path_factory) -> str:
    """A library that, loaded first, claims 64 CPUs."""
    if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
        pytest.skip("no C compiler is installed")
    folder = tmp_path_factory.mktemp("claims")
    (folder / "claims.c").write_text(CLAIMS)
    library = folder / "claims.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, folder / "claims.c", "-ldl"]
    subprocess.run(command, check=True)
    return str(library)


@pytest.fixture
def limited() -> Iterator[Path]:
    """A cgroup that may have 256 tasks; which only root can create."""
    for mounted in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = mounted / f"her2d-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / "pids.max").write_text(str(LIMIT))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no cgroup with a limit of tasks can be created here")


def within(group: Path) -> list[str]:
    """Return the start of a command line whose process joins the cgroup first."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]


def test_a_daemon_with_64_claimed_cpus_works_within_256_tasks(
    tmp_path, color_bundle, write_slide, claims_64_cpus, limited
):
    site = Site.made(tmp_path / "site", color_bundle)
    site.set("inference", threads=0)
    write_slide(["SwSw"] * 3, "a.tif", folder=site.inbox)
    with site.daemon(prefix=within(limited), LD_PRELOAD=claims_64_cpus):
        most = int((limited / "pids.current").read_text())
        site.wait_for(JobState.DONE)
        assert most < LIMIT
        _, text = site.answer("/metrics")
    assert "her2d_jobs" in text
    (line,) = [line for line in site.lines() if line["event"] == "threads_limited"]
    assert (line["cpus"], line["most_threads"] <= LIMIT) == (CPUS, True), json.dumps(line)


def test_blas_and_opencv_have_one_thread_in_the_daemon(claims_64_cpus):
    script = (
        "import her2d.cli, cv2, numpy, scipy.linalg, os\n"
        "from threadpoolctl import threadpool_info\n"
        "pools = [p['num_threads'] for p in threadpool_info() if p['user_api'] == 'blas']\n"
        "print(cv2.getNumThreads(), *pools, len(os.listdir('/proc/self/task')))\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")
    } | {"LD_PRELOAD": claims_64_cpus}
    python = [sys.executable, "-c", script]
    printed = subprocess.run(python, check=True, capture_output=True, text=True, env=environment)
    assert set(printed.stdout.split()) == {"1"}
