"""What is written past the log is logged too, each case in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

SET_UP = """
import ctypes, os, signal, sys, threading, time, warnings
from pathlib import Path
from her2d.monitoring.log import configure_logging
from her2d.monitoring.log_queue import flush_log, log_through_queue
from her2d.monitoring.pseudonyms import Pseudonyms
from her2d.monitoring.stderr_lines import stderr_lines_logged
from her2d.monitoring.uncaught import log_uncaught
from her2d.system.loggers import get_logger
log = get_logger("her2d.test")
libc = ctypes.CDLL(None)
def written_in_c(text):
    libc.write(2, text.encode(), len(text.encode()))
configure_logging("json", "info", Pseudonyms(b"key", [".tif"], [Path("/in")]) if HIDING else None)
with stderr_lines_logged():
    log_through_queue()
    log_uncaught()
    RUN()
    flush_log()
"""


def started(
    code: str, *, hiding: bool = False, before: str = "", **streams: Any
) -> "subprocess.Popen[str]":
    """Start a process that runs `code` while the lines on its stderr are logged."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    program = f"HIDING = {hiding}\ndef RUN():\n{body}{before}{SET_UP}"
    return subprocess.Popen([sys.executable, "-c", program], text=True, **streams)


def lines_of(code: str, *, hiding: bool = False, expected: int = 0) -> list[dict]:
    """Run `code` in a process, and return the lines of its log, all of which are JSON."""
    process = started(code, hiding=hiding, stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=60)
    assert process.returncode == expected, error
    for line in error.splitlines():
        assert line.startswith('{"event": "'), line
    return [json.loads(line) for line in error.splitlines()]


def test_a_line_that_a_library_in_c_writes_is_an_event():
    (line,) = lines_of("written_in_c('[W:onnxruntime] no GPU\\n')")
    assert (line["event"], line["line"]) == ("stderr_line", "[W:onnxruntime] no GPU")
    assert (line["level"], line["timestamp"][-1]) == ("warning", "Z")


def test_the_log_itself_is_as_before():
    first, second = lines_of("log.info('slide_started', job_id=7)\nwritten_in_c('plain\\n')")
    assert {first["event"], second["event"]} == {"slide_started", "stderr_line"}


def test_lines_arrive_whole_whatever_parts_they_are_written_in():
    code = (
        "for part in ('one\\ntw', 'o\\n\\n', 'three'):\n    written_in_c(part)\n    time.sleep(.1)"
    )
    assert [line["line"] for line in lines_of(code)] == ["one", "two", "three"]


def test_a_long_line_is_logged_in_parts_and_any_bytes_are_readable():
    found = lines_of("written_in_c('x' * 4500 + '\\n')\nos.write(2, b'\\xff\\x1b[2J\\n')")
    assert [len(line["line"]) for line in found[:3]] == [2000, 2000, 500]
    assert found[3]["line"].startswith("\\xff")


@pytest.mark.parametrize(
    "code",
    [
        "print('words', file=sys.stderr)",
        "sys.__stderr__.write('words\\n')",
        "import logging; logging.lastResort.stream.write('words\\n')",
        "import subprocess; subprocess.run(['sh', '-c', 'echo words >&2'])",
    ],
    ids=["print", "stderr", "last resort", "child"],
)
def test_whatever_python_or_a_child_prints_is_an_event(code):
    (line,) = lines_of(code)
    assert line["line"] == "words"


def test_a_warning_and_an_uncaught_exception_keep_their_own_events():
    (line,) = lines_of("warnings.warn('old way', DeprecationWarning)")
    assert "old way" in line["event"]
    (line,) = lines_of("raise OSError('the disk is gone')", expected=1)
    assert (line["event"], line["exception"][0]["exc_value"]) == (
        "process_failed",
        "the disk is gone",
    )


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        ("ctypes.string_at(0)", 11, "Fatal Python error: Segmentation fault"),
        ("written_in_c('free(): invalid pointer\\n')\nos.abort()", 6, "free(): invalid pointer"),
        (
            "threading.Thread(target=ctypes.string_at, args=(0,)).start()\ntime.sleep(9)",
            11,
            "Fatal Python error: Segmentation fault",
        ),
    ],
    ids=["segmentation fault", "abort", "in a thread"],
)
def test_the_last_words_of_a_crash_are_logged(code, number, words):
    found = [line["line"] for line in lines_of(code, expected=-number)]
    assert words in found
    assert any("most recent call first" in line for line in found)


def test_the_last_words_of_a_killed_process_are_logged():
    code = "written_in_c('about to be killed\\n')\nos.kill(os.getpid(), signal.SIGKILL)"
    assert [line["line"] for line in lines_of(code, expected=-9)] == ["about to be killed"]


def test_names_of_slides_are_hidden_in_these_lines_too():
    (line,) = lines_of("written_in_c('TIFFReadDirectory: /in/Wang Li.tif: odd\\n')", hiding=True)
    assert "Wang" not in line["line"]
    assert "TIFFReadDirectory" in line["line"]


def test_nothing_waits_for_a_reader_that_does_not_read():
    code = """
for _ in range(4000):
    written_in_c("x" * 1000 + chr(10))
print("written", flush=True)
"""
    process = started(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "written\n"
    finally:
        process.communicate(timeout=60)


SLOW_CHILD = """
import os, time
fork = os.fork
def slow():
    child = fork()
    if child == 0:
        time.sleep(0.5)
    return child
os.fork = slow
"""


@pytest.mark.parametrize("before", ["", SLOW_CHILD], ids=["ready", "hardly-started"])
def test_a_signal_to_the_whole_group_is_left_to_the_daemon(before):
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.readline()
written_in_c("after the signal" + chr(10))
"""
    process = started(
        code,
        before=before,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate("go\n", timeout=60)
    assert json.loads(error)["line"] == "after the signal"
