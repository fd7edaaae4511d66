"""Whoever reads the log stops reading: nothing waits for it, and dropped lines are counted."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator

import pytest
from waiting import wait_until

from her2d.monitoring import log_queue
from her2d.monitoring.log import configure_logging
from her2d.monitoring.log_queue import flush_log, lines_dropped, log_through_queue
from her2d.system.loggers import get_logger

log = get_logger("her2d.test")

CHARACTERS = 50_000


class Pipe:
    """A pipe that takes the place of stderr; it is read only when the test does."""

    def __init__(self, monkeypatch) -> None:
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        self.file = os.fdopen(writing, "w")
        monkeypatch.setattr("sys.stderr", self.file)

    def read_until(self, event: str) -> list[dict]:
        """Read lines until one has that event."""
        text = b""
        while f'"{event}"'.encode() not in text.rpartition(b"\n")[0]:
            part = os.read(self.reading, 65536)
            assert part, "the pipe was closed"
            text += part
        return [json.loads(line) for line in text.rpartition(b"\n")[0].splitlines()]


@pytest.fixture
def pipe(monkeypatch) -> Iterator[Pipe]:
    monkeypatch.setattr(log_queue, "_handlers", [])
    monkeypatch.setattr(log_queue, "_FLUSH_S", 0.2)
    found = Pipe(monkeypatch)
    configure_logging("json", "info")
    log_through_queue(CHARACTERS)
    yield found
    os.close(found.reading)  # so that a blocked write ends
    for handler in log_queue._handlers:
        handler.close()
    found.file.close()


def test_lines_arrive_whole_and_in_order(pipe):
    for number in range(100):
        log.info("slide_queued", number=number)
    log.info("over")
    assert [line.get("number") for line in pipe.read_until("over")] == [*range(100), None]


def test_no_line_waits_for_a_reader_that_does_not_read(pipe):
    started = time.monotonic()
    for number in range(5000):
        log.info("slide_queued", number=number)
    assert time.monotonic() - started < 60
    assert lines_dropped() > 0


def test_the_log_says_how_many_lines_are_missing_once_it_is_read_again(pipe):
    for number in range(5000):
        log.info("slide_queued", number=number)
    lines = pipe.read_until("log_lines_dropped")
    written = [line for line in lines if line["event"] == "slide_queued"]
    assert lines[-1]["lines"] == 5000 - len(written) == lines_dropped()


def test_a_flush_does_not_wait_for_ever(pipe):
    for number in range(5000):
        log.info("slide_queued", number=number)
    flush_log()


def test_a_reader_that_is_gone_ends_nothing(pipe, monkeypatch):
    monkeypatch.setattr(os, "write", raises_broken_pipe)
    log.info("slide_queued")
    wait_until(lambda: lines_dropped() == 1)
    monkeypatch.undo()


def raises_broken_pipe(*_):
    raise BrokenPipeError


def test_a_stream_without_a_descriptor_is_written_to(capsys, monkeypatch):
    monkeypatch.setattr(log_queue, "_handlers", [])
    configure_logging("json", "info")
    log_through_queue()
    logging.getLogger("other").warning("hello")
    flush_log()
    assert json.loads(capsys.readouterr().err)["event"] == "hello"
