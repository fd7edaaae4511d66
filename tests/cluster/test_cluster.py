"""Slides that a real cluster scores, whatever happens to its nodes."""

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemon_site import Site
from ray_nodes import ClientRayNodes, RayNodes, cluster_site
from silent_relay import SilentRelay

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

NODES, KILLS = 3, 2
BATCH = 20
SLIDES = BATCH * (1 + KILLS)
# Few tiles: what takes time are the nodes. Some take a moment, to be killed in the middle of them.
PICTURES = (["Sw"], ["tSwS"] * 2, [".S", "hw"])


def fill(site: Site, write_slide, batch: int) -> None:
    """Write a batch of slides with different content into the inboxes."""
    for number in range(batch * BATCH, (batch + 1) * BATCH):
        inbox = far(site) if number % 2 else site.inbox
        write_slide(PICTURES[number % len(PICTURES)], f"{number:04}.tif", folder=inbox)


def far(site: Site) -> Path:
    """Return an inbox that no node of the cluster can open."""
    return site.folder / "far"


def with_two_inboxes(site: Site) -> Site:
    far(site).mkdir()
    site.set("intake", inboxes=[str(site.inbox), str(far(site))])
    return site


def test_nodes_and_a_daemon_killed_at_random_lose_double_and_change_no_result(
    ray_nodes: RayNodes, tmp_path, color_bundle, write_slide
):
    rng = random.Random(19)
    local = with_two_inboxes(Site.made(tmp_path / "local", color_bundle))
    for batch in range(1 + KILLS):
        fill(local, write_slide, batch)
    with local.daemon():
        local.wait_for(JobState.DONE, jobs=SLIDES)

    ray_nodes.add(NODES)
    folder = tmp_path / "site"
    site = with_two_inboxes(
        cluster_site(folder, color_bundle, ray_nodes.address, lacking=folder / "far")
    )
    killed = site.start()
    try:
        site.wait_until(lambda: site.events()["cluster_node_usable"] == NODES)
        fill(site, write_slide, 0)
        site.wait_for(JobState.RUNNING, jobs=2)
    finally:
        killed.kill()
        killed.wait()
    # Its engines end with it: on a node with one CPU there is no place for another.
    with site.daemon():
        site.wait_until(lambda: site.events()["cluster_node_usable"] == 2 * NODES)
        for batch in range(1, 1 + KILLS):
            fill(site, write_slide, batch)
            site.wait_for(JobState.RUNNING, jobs=3)
            time.sleep(rng.uniform(0, 0.05))
            ray_nodes.kill(rng.randrange(2))  # one that has been there for a while
            ray_nodes.add()
        site.wait_for(JobState.DONE, jobs=SLIDES)
        _, metrics = site.answer("/metrics")

    assert site.scores() == local.scores()
    assert site.runs() == SLIDES
    assert Counter(job.state for job in site.jobs()) == {JobState.DONE: SLIDES}
    assert {job.attempts for job in site.jobs()} == {1}
    assert site.events()["cluster_node_lost"] == KILLS
    assert site.events()["slide_sent_to_node"] >= SLIDES / 2
    assert "her2d_cluster_sent_bytes_total 0.0" not in metrics
    lost = site.events()["slide_node_lost"]
    assert lost > 0
    assert f'her2d_cluster_lost_attempts_total{{lost="node"}} {lost}.0' in metrics


def test_slides_are_scored_through_rays_client_and_a_killed_node_costs_none(
    client_nodes: ClientRayNodes, tmp_path, color_bundle, write_slide
):
    """The documented address, by which the daemon's machine is no node of the cluster."""
    local = with_two_inboxes(Site.made(tmp_path / "local", color_bundle))
    folder = tmp_path / "site"
    site = with_two_inboxes(
        cluster_site(folder, color_bundle, client_nodes.address, lacking=folder / "far")
    )
    for each in (local, site):
        fill(each, write_slide, 0)
    with local.daemon():
        local.wait_for(JobState.DONE, jobs=BATCH)
    client_nodes.add(2)
    with site.daemon():
        site.wait_for(JobState.DONE)
        client_nodes.kill(0)
        site.wait_for(JobState.DONE, jobs=BATCH)
        site.wait_until(lambda: site.events()["cluster_node_lost"] == 1)
    assert site.scores() == local.scores()
    assert site.runs() == BATCH
    assert site.events()["slide_sent_to_node"] >= BATCH / 2
    assert {job.attempts for job in site.jobs()} == {1}


def driver_process_of(daemon: int) -> int:
    """Return the id of the process by which a daemon speaks with Ray."""
    tasks = Path(f"/proc/{daemon}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    (found,) = (
        int(child)
        for child in children
        if b"multiprocessing.spawn" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return found


def test_a_driver_process_that_is_killed_in_the_middle_of_slides_costs_none(
    ray_nodes: RayNodes, tmp_path, color_bundle, write_slide
):
    ray_nodes.add(2)
    site = cluster_site(tmp_path / "site", color_bundle, ray_nodes.address)
    with site.daemon() as daemon:
        site.wait_until(lambda: site.events()["cluster_node_usable"] == 2)
        for number in range(4):
            write_slide(["SwSwSwSw"] * (20 + number), f"{number}.tif", folder=site.inbox)
        under_way = re.compile(r"^her2d_cluster_node_slides\{.*\} [12]\.0$", re.MULTILINE)
        site.wait_until(lambda: under_way.search(site.answer("/metrics")[1]) is not None)
        os.kill(driver_process_of(daemon.pid), signal.SIGKILL)
        site.wait_for(JobState.DONE, jobs=4)
        _, metrics = site.answer("/metrics")
    assert (site.runs(), site.events()["cluster_lost"]) == (4, 1)
    assert {job.attempts for job in site.jobs()} == {1}
    assert site.events()["slide_node_lost"] > 0
    assert "her2d_cluster_disconnections_total 1.0" in metrics


@pytest.mark.parametrize("cluster", ["ray_nodes", "client_nodes"])
def test_a_stop_soon_after_all_of_the_cluster_is_lost_is_clean(
    cluster, request, tmp_path, color_bundle, write_slide
):
    nodes: RayNodes = request.getfixturevalue(cluster)
    nodes.add()
    site = cluster_site(tmp_path / "site", color_bundle, nodes.address)
    site.set("pipeline", drain_s=1)
    with site.daemon():
        write_slide(["SwSwSwSw"] * 40, "a.tif", folder=site.inbox)
        site.wait_for(JobState.RUNNING)
        under_way = re.compile(r"^her2d_cluster_node_slides\{.*\} 1\.0$", re.MULTILINE)
        site.wait_until(lambda: under_way.search(site.answer("/metrics")[1]) is not None)
        nodes.kill(0)
        nodes.kill_head()
    (job,) = site.jobs()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert site.events()["stop_forced"] == 0


def test_a_stop_is_clean_while_a_head_accepts_connections_and_answers_nothing(
    client_nodes: ClientRayNodes, tmp_path, color_bundle, write_slide
):
    client_nodes.add()
    port = int(client_nodes.address.rpartition(":")[2])
    with SilentRelay(port) as relay:
        site = cluster_site(tmp_path / "site", color_bundle, f"ray://127.0.0.1:{relay.port}")
        site.set("pipeline", drain_s=1)
        with site.daemon():
            write_slide(["SwSwSwSw"] * 40, "a.tif", folder=site.inbox)
            under_way = re.compile(r"^her2d_cluster_node_slides\{.*\} 1\.0$", re.MULTILINE)
            site.wait_until(lambda: under_way.search(site.answer("/metrics")[1]) is not None)
            relay.fall_silent()
    (job,) = site.jobs()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert site.events()["stop_forced"] == 0
    site.set("cluster", address=client_nodes.address)
    with site.daemon():
        site.wait_for(JobState.DONE)
    assert (site.runs(), site.jobs()[0].attempts) == (1, 1)


@pytest.mark.soak  # a head is only missed after half a minute, and Ray looks for it busily
@pytest.mark.parametrize("cluster", ["ray_nodes", "client_nodes"])
def test_a_daemon_whose_head_is_lost_runs_on_and_connects_to_the_next(
    cluster, request, tmp_path, color_bundle, write_slide
):
    nodes: RayNodes = request.getfixturevalue(cluster)
    nodes.add()
    site = cluster_site(tmp_path / "site", color_bundle, nodes.address)
    with ExitStack() as ended, site.daemon():
        site.wait_until(lambda: site.events()["cluster_node_usable"] == 1)
        nodes.kill_head()
        reason = site.wait_for_503("/readyz")
        assert "The cluster is lost" in reason
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.QUEUED)
        nodes.end()
        again = nodes.again()
        ended.callback(again.end)
        again.add()
        site.wait_for(JobState.DONE)
    (job,) = site.jobs()
    assert job.attempts == 1
    assert site.events()["cluster_lost"] == 1
