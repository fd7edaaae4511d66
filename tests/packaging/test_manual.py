"""The manual page her2d(1)."""

import os
import re
import shutil
import subprocess

import pytest

from tools.docs.commands import commands
from tools.docs.manual import manual

needs_man = pytest.mark.skipif(
    shutil.which("man") is None, reason="man is not installed (Debian package man-db)"
)


@pytest.fixture
def rendered(tmp_path) -> str:
    """The page as a terminal of 100 columns shows it. No warning may be printed."""
    page = tmp_path / "her2d.1"
    page.write_text(manual())
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFSEQ": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


@needs_man
def test_man_shows_each_command_with_its_options_and_help(rendered):
    words = " ".join(rendered.split())
    for command in commands():
        assert f"\n   {command.name}\n" in rendered
        assert " ".join(command.help.replace("`", "").split()) in words
        section = rendered.partition(f"\n   {command.name}\n")[2]
        for parameter in command.click.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert not option.startswith("-") or option == "--help" or option in section


@needs_man
def test_the_page_has_the_sections_of_a_command(rendered):
    sections = re.findall(r"^[A-Z][A-Z ]+$", rendered, re.MULTILINE)
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"),
        *("EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"),
    ]


def test_text_cannot_become_a_request_to_roff():
    assert not [
        line
        for line in manual().splitlines()
        if line.startswith((".", "'"))
        and not re.match(r"\.(TH|SH|SS|TP|PP|B|I|RI|BR|nh|ad)\b", line)
    ]
