"""What a command prints on a terminal, and in a pipe."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import her2d.cli

SAY = "from her2d.cli.terminal import say; say({!r})"


def printed(text: str, *, on_a_terminal: bool) -> bytes:
    command = [sys.executable, "-c", SAY.format(text)]
    if not on_a_terminal:
        return subprocess.run(command, capture_output=True, check=True).stdout
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        return file.read1()


@pytest.mark.parametrize("text", ["/heat/\x1b[2J.png", "\u202egnp", "\x9b2J", "a\u200b"])
@pytest.mark.slow
def test_on_a_terminal_what_could_steer_it_is_escaped(text):
    found = printed(text, on_a_terminal=True).decode()
    assert found == text.encode("unicode_escape").decode() + "\r\n"


def test_lines_and_chinese_names_are_kept_on_a_terminal():
    assert printed("a\n北京.tif", on_a_terminal=True).decode() == "a\r\n北京.tif\r\n"


def test_in_a_pipe_a_path_is_as_it_is():
    name = os.fsdecode(b"/heat/bad\xff\x1b.png")
    assert printed(name, on_a_terminal=False) == b"/heat/bad\xff\x1b.png\n"


def test_every_command_prints_by_these_functions():
    package = Path(her2d.cli.__file__).parent
    modules = [path for path in package.glob("*.py") if path.name != "terminal.py"]
    assert [path.name for path in modules if "typer.echo(" in path.read_text()] == []
