"""A pool's workers end with the process that made the pool."""

import signal
import subprocess
import sys

import psutil

POOL = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from her2d.system.parent_process import end_with_parent

if __name__ == "__main__":
    spawned = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned, initializer=end_with_parent) as pool:
        list(pool.map(abs, range(8)))
        print("started", flush=True)
        time.sleep(600)
"""
PATIENCE_S = 60


def test_idle_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        workers = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGKILL)
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert alive == []
