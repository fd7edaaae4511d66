"""The real daemon, as a process, on real files."""

import pytest
from daemon_site import Site


@pytest.fixture
def site(tmp_path, color_bundle) -> Site:
    return Site.made(tmp_path / "site", color_bundle)
