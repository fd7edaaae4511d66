"""Slides that a real cluster scores, whatever happens to its nodes."""

import random
import time
from collections import Counter

import psutil
import pytest
from daemon_site import Site
from ray_nodes import RayNodes, cluster_site

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

SLIDES, NODES = 36, 3
PICTURES = (["Sw"], ["ww", "Sh"], ["tSw"], ["ss"], [".S", "hw"], ["wwwwS"])


def fill(site: Site, write_slide) -> None:
    """Write slides with different content into the inbox."""
    for number in range(SLIDES):
        write_slide(PICTURES[number % len(PICTURES)], f"{number:04}.tif", folder=site.inbox)


def actors() -> list[psutil.Process]:
    """Return the processes of this machine in which Ray runs her2d's actors."""
    return [each for each in psutil.process_iter(["cmdline"])
            if "ray::SlideActor" in " ".join(each.info["cmdline"] or ())]  # fmt: skip


def test_nodes_killed_at_random_lose_and_double_no_result(
    ray_nodes: RayNodes, tmp_path, color_bundle, write_slide
):
    rng = random.Random(19)
    local = Site.made(tmp_path / "local", color_bundle)
    fill(local, write_slide)
    with local.daemon():
        local.wait_for(JobState.DONE, jobs=SLIDES)

    ray_nodes.add(NODES)
    site = cluster_site(tmp_path / "site", color_bundle, ray_nodes.address)
    with site.daemon():
        site.wait_until(lambda: site.events()["cluster_node_usable"] == NODES)
        fill(site, write_slide)
        for kill in range(NODES):
            done = (kill + 1) * SLIDES // (NODES + 2)
            site.wait_for(JobState.DONE, jobs=done)
            site.wait_for(JobState.RUNNING)
            time.sleep(rng.uniform(0, 0.2))
            ray_nodes.kill(rng.randrange(len(ray_nodes.nodes)))
            ray_nodes.add()
        site.wait_for(JobState.DONE, jobs=SLIDES)
        _, metrics = site.answer("/metrics")

    assert site.scores() == local.scores()
    assert site.runs() == SLIDES
    assert Counter(job.state for job in site.jobs()) == {JobState.DONE: SLIDES}
    assert {job.attempts for job in site.jobs()} == {1}
    assert site.events()["cluster_node_lost"] == NODES
    assert site.events()["slide_node_lost"] > 0
    assert 'her2d_cluster_lost_attempts_total{lost="node"}' in metrics
