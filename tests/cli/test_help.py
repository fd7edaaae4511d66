"""Help pages: each says what a command does, and fits a terminal of 80 columns."""

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from her2d.cli.app import app


def pages(command: object, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, sub in getattr(command, "commands", {}).items():
        yield from pages(sub, *path, name)


PAGES = list(pages(typer.main.get_command(app)))


def page(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    found = CliRunner().invoke(app, [*path, "--help"])
    assert found.exit_code == 0
    return found.stdout.splitlines()


def test_every_command_has_a_page():
    assert ("queue", "retry") in PAGES
    assert len(PAGES) > 30


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_no_summary_is_cut_off_and_each_fits_its_line(path, monkeypatch):
    usage, *lines = page(path, monkeypatch)
    assert usage.startswith("Usage: ")
    assert [line for line in lines if line.endswith(("...", "…"))] == []
    assert max(map(len, lines)) <= 80
    _, _, commands = "\n".join(lines).partition("Commands:\n")
    for summary in commands.splitlines():
        assert summary.endswith(".")


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_page_begins_with_a_sentence_and_explains_every_option(path, monkeypatch):
    lines = page(path, monkeypatch)
    first = next(line for line in lines[1:] if line.startswith("  "))
    assert first.strip()[0].isupper()
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    assert [param.name for param in command.params if not getattr(param, "help", "")] == []
