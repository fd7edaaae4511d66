"""Engines that come with the slides and go without them, on nodes that Ray's autoscaler starts."""

import re
from collections.abc import Iterator

import pytest
from daemon_site import Site
from ray_nodes import ScalingRayNodes, cluster_site

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

SLIDES = 6


@pytest.fixture
def scaling(tmp_path, monkeypatch) -> Iterator[ScalingRayNodes]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")
    for name, value in ScalingRayNodes.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    nodes = ScalingRayNodes(tmp_path)
    yield nodes
    nodes.end()


def metric(site: Site, series: str) -> float:
    _, text = site.answer("/metrics")
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def engines(site: Site, state: str) -> float:
    return metric(site, f'her2d_cluster_engines{{state="{state}"}}')


@pytest.mark.soak  # Ray takes most of a minute to start a node for it and to end it again
def test_rays_autoscaler_starts_nodes_for_waiting_slides_and_ends_them_afterwards(
    scaling, tmp_path, color_bundle, write_slide
):
    site = cluster_site(tmp_path / "site", color_bundle, scaling.address)
    site.set("cluster", least_engines=0, release_after_s=2, autoscales=True)
    with site.daemon():
        site.wait_until(lambda: site.events()["cluster_connected"] == 1)
        assert site.answer("/readyz")[0] == 200  # without a node, which a slide would bring
        assert metric(site, "her2d_cluster_places_slides") == 0
        for number in range(SLIDES):
            write_slide(["Sw" * (1 + number)], f"{number}.tif", folder=site.inbox)
        site.wait_until(lambda: engines(site, "requested") > 0)
        site.wait_for(JobState.DONE, jobs=SLIDES)
        site.wait_until(lambda: engines(site, "usable") == engines(site, "requested") == 0)
        # Ray ends a node some seconds after its last engine.
        site.wait_until(lambda: site.events()["cluster_node_lost"] == 1)
        assert site.answer("/readyz")[0] == 200
        _, metrics = site.answer("/metrics")
    assert {job.attempts for job in site.jobs()} == {1}
    assert site.runs() == SLIDES
    assert site.events()["slide_node_lost"] == 0
    assert "her2d_cluster_node_engines{" not in metrics  # its series have gone with it
