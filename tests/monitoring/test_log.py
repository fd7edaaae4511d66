"""What is logged, and what is not."""

import json
import logging
import os
from collections.abc import Callable
from queue import Queue

import pytest
import structlog
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyEmitter

from her2d.cli.terminal import say_error
from her2d.monitoring.log import configure_logging
from her2d.system.loggers import get_logger

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _sign(secret: str) -> None:
    raise OSError("no key")


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_of_json_with_the_bound_fields(capsys):
    configure_logging("json", "info")
    with structlog.contextvars.bound_contextvars(job_id=7, file="a.tif"):
        get_logger("her2d.test").info("slide_started", attempt=1)
    (line,) = lines(capsys)
    assert line["event"] == "slide_started"
    assert (line["job_id"], line["file"], line["attempt"]) == (7, "a.tif", 1)
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_no_name_in_a_line_steers_a_terminal(capsys):
    name = "北京\x1b[2J\u202e\x9b.tif\udcff"
    configure_logging("json", "info")
    get_logger("her2d.test").info("slide_started", file=name)
    written = capsys.readouterr().err
    assert written.strip().isprintable()
    assert "北京" in written
    assert json.loads(written)["file"] == name
    configure_logging("console", "info")
    get_logger("her2d.test").info("slide_started", file=name, files=[name])
    written = capsys.readouterr().err
    assert not set("\u202e\x9b") & set(written)
    assert "\x1b[2J" not in written
    assert "北京" in written


def test_a_line_of_a_library_has_the_same_format(capsys):
    configure_logging("json", "info")
    logging.getLogger("watchdog").warning("the limit of %d watches is reached", 8192)
    (line,) = lines(capsys)
    assert (line["level"], line["event"]) == ("warning", "the limit of 8192 watches is reached")


def test_a_file_event_that_arrives_while_its_watch_is_stopped_is_not_logged(capsys, tmp_path):
    configure_logging("json", "info")
    stopped = InotifyEmitter(Queue(), ObservedWatch(str(tmp_path), recursive=True))
    stopped.queue_events(1.0)
    assert lines(capsys) == []


def test_an_exception_is_structured(capsys):
    configure_logging("json", "info")
    try:
        raise OSError("disk is gone")
    except OSError as error:
        get_logger("her2d.test").error("slide_failed", exc_info=error)
    (line,) = lines(capsys)
    assert line["exception"][0]["exc_type"] == "OSError"
    assert line["exception"][0]["exc_value"] == "disk is gone"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_logged_exception_has_its_traceback_but_no_local_variables(capsys, log_format):
    configure_logging(log_format, "info")
    try:
        _sign(SECRET)
    except OSError as error:
        get_logger("her2d.test").error("webhook_failed", exc_info=error)
    logged = capsys.readouterr().err
    assert "_sign" in logged
    assert "locals" not in logged
    assert SECRET not in logged


def log_of_everything(log_format) -> None:
    """Log an event, an exception of several lines, and a line of a library."""
    configure_logging(log_format, "info")
    get_logger("her2d.test").info("slide_started", attempt=1, file="two words.tif")
    try:
        _sign(SECRET)
    except OSError as error:
        get_logger("her2d.test").error("slide_failed", exc_info=error)
    logging.getLogger("watchdog").warning("the limit is reached")
    get_logger("her2d.test").critical("daemon_failed")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_every_line_begins_with_its_event(capsys, log_format):
    log_of_everything(log_format)
    text = capsys.readouterr().err
    if log_format == "json":
        assert [next(iter(json.loads(line))) for line in text.splitlines()] == ["event"] * 4
    for event in ("slide_started", "slide_failed", "the limit is reached", "daemon_failed"):
        assert any(line.removeprefix('{"event": "').startswith(event) for line in text.splitlines())


def test_a_line_of_text_has_level_and_time_and_quotes_what_is_more_than_a_word(capsys):
    log_of_everything("console")
    words = capsys.readouterr().err.splitlines()[0].split()
    assert words[:2] == ["slide_started", "[info"]
    assert words[3].endswith("Z")
    assert " ".join(words[4:]) == "attempt=1 file='two words.tif'"


@pytest.fixture
def journal(tmp_path, monkeypatch) -> Callable[[Callable[[], None]], list[str]]:
    """Run something while systemd has connected stderr to the journal; returns what it was sent."""

    def journal(run: Callable[[], None]) -> list[str]:
        path = tmp_path / "journal"
        with path.open("w") as stream, monkeypatch.context() as patch:
            found = os.fstat(stream.fileno())
            patch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
            patch.setattr("sys.stderr", stream)
            run()
        return path.read_text().splitlines()

    return journal


def test_the_journal_gets_each_lines_priority_and_json_after_it(journal):
    lines = journal(lambda: log_of_everything("json"))
    assert [line[:3] for line in lines] == ["<6>", "<3>", "<4>", "<2>"]
    assert [next(iter(json.loads(line[3:]))) for line in lines] == ["event"] * 4


def test_in_the_journal_each_line_of_a_traceback_has_the_priority_of_its_event(journal):
    lines = journal(lambda: log_of_everything("console"))
    assert [line for line in lines if line[0] != "<" or line[2] != ">"] == []
    of_the_error = [line for line in lines if line.startswith("<3>")]
    assert of_the_error[0].startswith("<3>slide_failed ")
    assert "<3>OSError: no key" in of_the_error
    assert "\x1b" not in "".join(lines)


def test_in_the_journal_a_commands_last_sentence_is_an_error(journal):
    assert journal(lambda: say_error("No slides match.")) == ["<3>her2d: No slides match."]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_has_a_priority_where_stderr_is_not_the_journal(capfd, monkeypatch, log_format):
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")  # inherited from a service
    log_of_everything(log_format)
    say_error("No slides match.")
    assert not any(line.startswith("<") for line in capfd.readouterr().err.splitlines())
