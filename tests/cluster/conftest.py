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
    for module in ("ray", "grpc"):  # Ray installs it for its clients only
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'her2d[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = ClientRayNodes()
    yield nodes
    nodes.end()
