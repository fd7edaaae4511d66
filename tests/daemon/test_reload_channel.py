"""A command learns what became of the reload that it requested."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from her2d.daemon.reload_channel import Outcome, ReloadError, answering, request_reload

# A daemon that does nothing else: it reloads at SIGHUP, as `her2d run` does.
DAEMON = """
import signal, sys, time
from her2d.daemon.reload_channel import Outcome, answering
def waits():
    print("asked", flush=True)
    return sys.stdin.readline()
def reload(*_):
    {before}
    with answering() as answer:
        answer({outcome})
signal.signal(signal.SIGHUP, reload)
print("ready", flush=True)
while True:
    time.sleep(60)
"""

PATIENCE_S = 60

StartDaemon = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def daemon() -> Iterator[StartDaemon]:
    started = []

    def daemon(outcome: str, before: str = "") -> "subprocess.Popen[str]":
        program = DAEMON.format(outcome=outcome, before=before)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
    assert request_reload(process.pid, PATIENCE_S) == outcome
    assert request_reload(process.pid, PATIENCE_S) == outcome


def test_a_signal_that_no_command_waits_for_reloads_as_well(daemon):
    process = daemon("Outcome()")
    process.send_signal(signal.SIGHUP)
    assert request_reload(process.pid, PATIENCE_S) == Outcome()


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


def asked(process: "subprocess.Popen[str]") -> tuple[threading.Thread, list[Outcome]]:
    """Request a reload in a thread; return it and its outcome, once the daemon has been asked."""
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(request_reload(process.pid, PATIENCE_S)))
    thread.start()
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    return thread, found


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_only_one_command_waits_at_a_time(daemon):
    process = daemon("waits() and Outcome()")
    first, found = asked(process)
    with pytest.raises(ReloadError, match=f"Another command waits for .* process {process.pid}"):
        request_reload(process.pid, PATIENCE_S)
    go_on(process)
    first.join()
    assert found == [Outcome()]


def test_an_answer_of_another_process_is_not_taken(daemon):
    process = daemon("Outcome(refused='the daemon')", before="waits()")
    waiting, found = asked(process)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.settimeout(PATIENCE_S)
        other.connect(f"\0her2d-reload-{process.pid}")
        with contextlib.suppress(BrokenPipeError):  # it is refused before it answers
            other.sendall(b'{"refused": null, "waiting": []}')
        with contextlib.suppress(ConnectionResetError):
            assert other.recv(100) == b""
    go_on(process)
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
