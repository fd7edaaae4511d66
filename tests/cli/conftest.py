"""A laboratory to run commands in, and a terminal to read their listings on."""

import re
from collections.abc import Callable

import pytest
from laboratory import her2d, laboratory

__all__ = ["her2d", "laboratory"]


@pytest.fixture
def on_a_terminal(laboratory, monkeypatch) -> Callable[..., str]:
    """Run a command on a terminal of a width; returns what it printed, without styles."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    def on_a_terminal(width: int, *arguments: object) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        found = laboratory.run(*arguments)
        return re.sub(r"\x1b\[[\d;]*m", "", found.stdout)

    return on_a_terminal
