"""her2d as a library logs through the standard library, and changes nobody else's logging."""

import os
import subprocess
import sys

import pytest

_LOGS = """
log = get_logger("her2d.room.module")
log.info("slide_started", file="a.tif", attempt=1)
try:
    raise OSError("disk is gone")
except OSError as error:
    log.error("slide_failed", exc_info=error)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    lines = "from her2d.system.loggers import get_logger\n" + script
    return subprocess.run(
        [sys.executable, "-c", lines], env=os.environ, check=True, capture_output=True, text=True
    )


def test_a_program_that_does_not_configure_logging_sees_nothing():
    done = run(_LOGS)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_program_that_configures_logging_gets_the_lines_with_their_fields_and_tracebacks():
    done = run("import logging; logging.basicConfig(level=logging.INFO)" + _LOGS)
    assert done.stdout == ""
    first, second, *traceback = done.stderr.splitlines()
    assert first == "INFO:her2d.room.module:slide_started file='a.tif' attempt=1"
    assert second == "ERROR:her2d.room.module:slide_failed"
    assert traceback[-1] == "OSError: disk is gone"


def test_a_program_chooses_the_level_of_her2d_as_of_any_library():
    quiet = "import logging; logging.basicConfig(level=logging.INFO)\n"
    quiet += "logging.getLogger('her2d').setLevel(logging.ERROR)"
    done = run(quiet + _LOGS)
    assert "slide_started" not in done.stderr
    assert "slide_failed" in done.stderr


def test_the_programs_format_may_name_the_file_that_logged():
    done = run(
        "import logging; logging.basicConfig(level=logging.INFO, format='%(filename)s')" + _LOGS
    )
    assert done.stderr.splitlines()[0] == "<string>"


@pytest.mark.parametrize("first", ["structlog.configure(processors=[drop])", "pass"])
def test_the_program_keeps_its_own_structlog_configuration(first):
    done = run(
        f"""
import logging, structlog
def drop(*_): raise structlog.DropEvent
{first}
before = structlog.get_config()
logging.basicConfig(level=logging.INFO)
{_LOGS}
assert structlog.get_config() == before
structlog.get_logger().info("of the program")
"""
    )
    assert "slide_started" in done.stderr
    assert ("of the program" in done.stdout) == (first == "pass")
