"""What is logged, and what is not."""

import json
import logging
from queue import Queue

import pytest
import structlog
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyEmitter

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
