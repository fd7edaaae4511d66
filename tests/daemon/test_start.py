"""A start that works is given time, one that hangs ends with a sentence, and a stop ends it."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from daemon_site import PATIENCE_S, Site

from her2d.daemon.start import StartWatch
from her2d.db.connection import open_database


class Start:
    """A start on a clock of its own, whose process does what the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.work = (0.0, 0)
        self.sent: list[float] = []
        self.ended: list[str] = []
        self.watch = StartWatch(self, self.ended.append, lambda: self.work, lambda: self.now)

    def extend_start(self, seconds: float) -> None:
        self.sent.append(seconds)

    def status(self, _status: str) -> None:
        pass

    def passes(self, seconds: float, works: Callable[[], tuple[float, int]] | None = None) -> None:
        for _ in range(round(seconds / 5)):
            self.now += 5
            self.work = works() if works else self.work
            self.watch.check()


@pytest.fixture
def start() -> Start:
    return Start()


def test_a_start_that_computes_is_given_time_beyond_the_units_limit(start):
    start.watch.step("it opens the back end")
    start.passes(1000, lambda: (start.now, 0))
    assert start.ended == []
    assert all(seconds > 5 for seconds in start.sent)


def test_a_start_that_reads_is_given_time(start):
    start.passes(1000, lambda: (0.0, round(start.now) << 20))
    assert start.ended == []


def test_a_start_that_does_nothing_ends_with_its_step(start):
    start.watch.step("it opens the back end")
    start.passes(125)
    assert start.ended[0] == (
        "The start has made no progress for 120 s while it opens the back end."
    )


def test_a_step_that_computes_without_end_is_not_given_time_for_ever(start):
    start.watch.step("it opens the back end")
    start.passes(3600, lambda: (start.now, 0))
    assert start.ended == ["The start has not ended for 3600 s while it opens the back end."]


def test_work_is_the_cpu_time_of_the_other_threads():
    program = (
        "from her2d.daemon.start import work_of_this_process as work; before, _ = work();"
        " sum(range(3_000_000)); after, _ = work(); print(after - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 0.02


# A daemon whose back end hangs when it is opened, as ONNX Runtime does where no thread can start.
HANGS = """
import sys, threading
from her2d.daemon import service, start
stalled_s = float(sys.argv[1])
def hang(*_):
    start._STALLED_S = stalled_s
    threading.Event().wait()
start._CHECK_S = 0.2
service.open_processor = hang
from her2d.cli import main
sys.argv = ["her2d", "run", "--config", sys.argv[2]]
main()
"""


def hanging(site: Site, stalled_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HANGS, str(stalled_s), str(site.config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)


@pytest.mark.slow
def test_a_daemon_whose_start_hangs_ends_with_a_sentence(tmp_path, color_bundle):
    process = hanging(Site.made(tmp_path / "site", color_bundle), 1.0)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    last = json.loads(error.splitlines()[-1])
    assert (last["event"], last["level"]) == ("start_stalled", "critical")
    assert last["reason"].startswith("The start has made no progress for ")
    assert last["reason"].endswith(" s while it loads the bundle and opens the back end.")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_stop_ends_a_start_that_hangs(tmp_path, color_bundle, number):
    site = Site.made(tmp_path / "site", color_bundle)
    process = hanging(site, 3600.0)
    site.wait_until(lambda: site.database.exists() and is_handling(process.pid, number))
    time.sleep(1)
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, error
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_stop_ends_a_start_whose_database_is_locked(tmp_path, color_bundle):
    site = Site.made(tmp_path / "site", color_bundle)
    open_database(site.database).close()
    with contextlib.closing(sqlite3.connect(site.database)) as other:
        other.execute("begin exclusive")
        process = site.start()
        site.wait_until(lambda: is_handling(process.pid, signal.SIGTERM))
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in site.log.read_text()


def is_handling(pid: int, number: signal.Signals) -> bool:
    """Return whether the process has a handler for that signal, from proc(5)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
