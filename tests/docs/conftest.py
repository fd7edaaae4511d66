"""A small laboratory, and the folder that the documentation's renderers expect to run in."""

from collections.abc import Iterator

import pytest
from documentation import ROOT

from tools.docs.example_site import ExampleSite, example_site


@pytest.fixture(autouse=True)
def in_the_repositorys_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def site() -> Iterator[ExampleSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with example_site() as found:
            yield found
