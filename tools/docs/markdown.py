"""Markdown from values."""

from collections.abc import Iterable, Sequence
from pathlib import Path

_INTRODUCTIONS = Path(__file__).with_name("introductions")
GENERATED = "<!-- Rendered by tools/docs from the code: change it there. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's syntax, without a line end; cells may hold Markdown, and any lines."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: object) -> str:
    """Inline code, also where the text holds backticks."""
    fence = "``" if "`" in str(text) else "`"
    return f"{fence}{text}{fence}"


def block(text: str, language: str = "") -> str:
    """A fenced block of code, without a line end."""
    return f"```{language}\n{text.rstrip()}\n```"


def introduction(name: str) -> str:
    """What is written by hand at the top of a rendered page."""
    return (_INTRODUCTIONS / f"{name}.md").read_text()


def page(title: str, *parts: str) -> str:
    """A whole page under one heading."""
    return "\n\n".join([GENERATED, f"# {title}", *(part.strip("\n") for part in parts)]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
