"""The pages that are written by hand, and the examples in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.docs.commands import examples

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "tools" / "docs" / "introductions").glob("*.md")),
]
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples_in(language: str) -> list[Example]:
    """Every block of a language, those that the reference shows for each command among them."""
    found = [example for page in PAGES for example in _blocks(page)]
    found += [Example(name, 0, "sh", text) for name, text in examples().items()]
    return [example for example in found if example.language == language]


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text())


def _blocks(page: Path) -> Iterator[Example]:
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        at = text.count("\n", 0, match.start()) + 1
        yield Example(str(page.relative_to(ROOT)), at, match["language"], "\n".join(lines) + "\n")
