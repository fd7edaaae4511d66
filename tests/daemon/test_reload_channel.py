"""A command learns what became of the reload that it requested."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from her2d.daemon.reload_channel import Outcome, ReloadError, answering, request_reload

# A daemon that does nothing else: it reloads at SIGHUP, as `her2d run` does.
DAEMON = """
import signal, sys, time
from her2d.daemon.reload_channel import Outcome, answering
def reload(*_):
    with answering() as answer:
        answer({outcome})
signal.signal(signal.SIGHUP, reload)
print("ready", flush=True)
while True:
    time.sleep(60)
"""

StartDaemon = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def daemon() -> Iterator[StartDaemon]:
    started = []

    def daemon(outcome: str) -> "subprocess.Popen[str]":
        program = DAEMON.format(outcome=outcome)
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started.append(process)
        return process

    yield daemon
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(),
        Outcome(waiting=("bundle.path", "ops.port")),
        Outcome(refused="[intake] settle_s must be greater than 0. 北京"),
    ],
    ids=["applied", "waiting", "refused"],
)
def test_the_command_gets_the_outcome(daemon, outcome):
    process = daemon(repr(outcome))
    assert request_reload(process.pid, 30) == outcome
    assert request_reload(process.pid, 30) == outcome


def test_a_signal_that_no_command_waits_for_reloads_as_well(daemon):
    process = daemon("Outcome()")
    process.send_signal(signal.SIGHUP)
    assert request_reload(process.pid, 30) == Outcome()


def test_a_process_that_does_not_answer_is_reported():
    silent = "import signal, time; signal.signal(1, lambda *_: None); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{silent}; time.sleep(60)"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ReloadError, match=rf"process {process.pid} has not answered for 0.3 s"):
            request_reload(process.pid, 0.3)
        process.kill()


def test_a_process_that_is_gone_is_reported():
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(ReloadError, match="cannot be signalled: No such process"):
        request_reload(gone.pid, 1)


def test_only_one_command_waits_at_a_time(daemon):
    process = daemon("time.sleep(1) or Outcome()")
    found: list[Outcome] = []
    first = threading.Thread(target=lambda: found.append(request_reload(process.pid, 30)))
    first.start()
    time.sleep(0.3)
    with pytest.raises(ReloadError, match=f"Another command waits for .* process {process.pid}"):
        request_reload(process.pid, 30)
    first.join()
    assert found == [Outcome()]


def test_an_answer_of_another_process_is_not_taken(daemon):
    process = daemon("time.sleep(1) or Outcome(refused='the daemon')")
    found: list[Outcome] = []
    waiting = threading.Thread(target=lambda: found.append(request_reload(process.pid, 30)))
    waiting.start()
    time.sleep(0.3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(f"\0her2d-reload-{process.pid}")
        other.sendall(b'{"refused": null, "waiting": []}')
    waiting.join()
    assert found == [Outcome(refused="the daemon")]


def test_a_command_that_no_longer_waits_disturbs_nothing():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"\0her2d-reload-{os.getpid()}")
        listening.listen()
        with answering() as answer:
            listening.accept()[0].close()
            answer(Outcome())
    with answering() as answer:
        answer(Outcome())
