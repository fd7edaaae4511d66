"""Print text so that no name of a file or slide can steer the terminal."""

import logging
import sys

import typer

from her2d.system.journal import is_journal, with_priority
from her2d.system.text import printable, shortened


def say(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text that may contain names of files.

    On a terminal, characters that could steer it are escaped. In a pipe the text is as it is, so
    that another program gets a path that it can open, even one that is not UTF-8.

    Args:
        text: its lines are kept.
        err: print to stderr.
        nl: end with a line break.
    """
    stream = sys.stderr if err else sys.stdout
    lines = str(text)
    if stream.isatty():
        lines = "\n".join(map(printable, lines.split("\n")))
    typer.echo(_encodable(lines), err=err, nl=nl)


def _encodable(text: str) -> str | bytes:
    """Return bytes for a text that holds bytes which are not UTF-8 (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text


def say_error(sentence: object) -> None:
    """Print the one line on stderr that says why a command or one of its files failed.

    A name of thousands of characters is shortened, so that the sentence around it is seen.
    """
    line = f"her2d: {shortened(printable(str(sentence)))}"
    typer.echo(with_priority(line, logging.ERROR) if is_journal(sys.stderr) else line, err=True)
