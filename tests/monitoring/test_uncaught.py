"""Uncaught exceptions, each in its own process."""

import json
import subprocess
import sys

import pytest

SET_UP = """
import threading, warnings
from her2d.monitoring.log import configure_logging
from her2d.monitoring.uncaught import log_uncaught
configure_logging("json", "info")
log_uncaught()
def fail():
    raise OSError("the disk is gone")
class Fails:
    def __del__(self):
        fail()
"""


def line_of(code: str) -> dict:
    """Run `code` in a process, and return the only line that it logs."""
    found = subprocess.run(
        [sys.executable, "-c", SET_UP + code], capture_output=True, text=True, check=False
    )
    (line,) = found.stderr.splitlines()
    return json.loads(line)


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("fail()", "process_failed"),
        ("t = threading.Thread(target=fail, name='archive'); t.start(); t.join()", "thread_failed"),
        ("Fails()", "error_ignored"),
    ],
)
def test_an_uncaught_exception_is_one_structured_line(code, event):
    line = line_of(code)
    assert line["event"] == event
    assert line["exception"][0]["exc_value"] == "the disk is gone"
    assert line.get("thread") == ("archive" if event == "thread_failed" else None)


def test_a_warning_is_one_structured_line():
    line = line_of("warnings.warn('old way', DeprecationWarning)")
    assert (line["level"], "old way" in line["event"]) == ("warning", True)


def test_a_thread_that_exits_is_not_logged():
    code = "threading.Thread(target=lambda: exit(3)).start(); warnings.warn('only this')"
    assert "only this" in line_of(code)["event"]
