"""Which person runs a command."""

import getpass
import os

import pytest

from her2d.system.actor import current_actor


def test_it_is_the_user_of_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert current_actor() == getpass.getuser()


def test_behind_sudo_it_is_who_called_sudo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_USER", "li")
    assert current_actor() == "li"


def test_a_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch):
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1001")

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(getpass, "getuser", unknown)
    assert current_actor() == f"#{os.getuid()}"
