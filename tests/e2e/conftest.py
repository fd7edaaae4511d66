"""The real daemon, as a process, on real files."""

from collections.abc import Iterator

import pytest
from daemon_site import Site


@pytest.fixture
def site(tmp_path, color_bundle) -> Site:
    return Site.made(tmp_path / "site", color_bundle)


@pytest.fixture(scope="session")
def served(tmp_path_factory, color_bundle) -> Iterator[Site]:
    """A site whose daemon runs, for all tests that only add files to its inbox.

    Files of the same bytes are duplicates of each other, across tests too. `write_slide` writes a
    slide's name into it, so each test has its own names.
    """
    site = Site.made(tmp_path_factory.mktemp("served") / "site", color_bundle)
    with site.daemon():
        yield site
