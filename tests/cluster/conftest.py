"""A real cluster of Ray, where it is installed."""

from collections.abc import Iterator

import pytest
from ray_nodes import ClientRayNodes, RayNodes


@pytest.fixture
def ray_nodes(monkeypatch) -> Iterator[RayNodes]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = RayNodes()
    yield nodes
    nodes.end()


@pytest.fixture
def client_nodes(monkeypatch) -> Iterator[ClientRayNodes]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = ClientRayNodes()
    yield nodes
    nodes.end()
