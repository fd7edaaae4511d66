"""Links that MkDocs does not see, the words of pages and sources, and the README's length."""

import re
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, prose_of

_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_NOT_OURS = re.compile(
    r"\b(whoever|whatever|whichever|lest|anew|for good|of its own"
    r"|(?<!there )is no (?!longer)\w+)\b",
    re.IGNORECASE,
)
AT_THE_TOP = [page for page in PAGES if page.parent == ROOT]


@pytest.mark.parametrize("page", AT_THE_TOP, ids=lambda page: page.name)
def test_links_of_the_pages_at_the_top_lead_somewhere(page: Path):
    missing = [link for link in _LINK.findall(page.read_text()) if not (ROOT / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "style.md"],  # which names them
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_pages_are_in_plain_english(page: Path):
    assert _NOT_OURS.findall(prose_of(page)) == []


# The readers of scans have sentences of the old style left; delete this when they are reworded.
_TO_REWORD = ROOT / "her2d" / "slides"


def test_the_sources_are_in_plain_english():
    sources = [*(ROOT / "her2d").rglob("*.py"), *(ROOT / "her2d").rglob("*.sql")]
    texts = {path: path.read_text() for path in sources if not path.is_relative_to(_TO_REWORD)}
    found = {str(path): _NOT_OURS.findall(text) for path, text in texts.items()}
    assert {path: words for path, words in found.items() if words} == {}


def test_the_readme_has_500_words_at_most_and_a_newcomers_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 500
    assert "make demo" in text
    assert "make test" in text
