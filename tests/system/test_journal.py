"""Whether a stream is the journal's, and the priorities of lines in it."""

import io
import logging
import os
import sys

import pytest

from her2d.system.journal import is_journal, with_priority


def journal_stream(file) -> dict[str, str]:
    found = os.fstat(file.fileno())
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def test_a_stream_is_the_journals_if_systemd_names_its_file(tmp_path):
    with (tmp_path / "one").open("w") as one, (tmp_path / "other").open("w") as other:
        assert is_journal(one, journal_stream(one))
        # A child inherits the variable, and its output is redirected.
        assert not is_journal(other, journal_stream(one))
        assert not is_journal(one, {})


@pytest.mark.parametrize("value", ["", ":", "8", "8:x", "8:1:2", "a:b"])
def test_a_variable_that_names_no_file_is_no_journal(value):
    assert not is_journal(sys.__stderr__, {"JOURNAL_STREAM": value})


def test_a_stream_that_is_no_file_is_no_journal():
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "8:1"})
    closed = io.StringIO()
    closed.close()
    assert not is_journal(closed, {"JOURNAL_STREAM": "8:1"})


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<2>"),
        (logging.INFO + 5, "<6>"),  # a level of a library's own
        (5, "<7>"),
    ],
)
def test_the_priorities_are_those_of_syslog(level, prefix):
    assert with_priority("a line", level) == f"{prefix}a line"


def test_every_line_of_a_text_has_the_priority():
    assert with_priority("Traceback:\n  one\nlast", logging.ERROR).split("\n") == [
        "<3>Traceback:",
        "<3>  one",
        "<3>last",
    ]
