"""After kill -9 at random moments every slide has one current result, and the right one."""

import os
import random
import time
from collections import Counter

import pytest
from daemon_site import Site

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

PICTURES = (["Sw"], ["ww", "Sh"], ["tSw"], ["ss"], [".S", "hw"], ["wwwwS"])
MOMENTS = ("start", "daemon_ready", "slide_discovered", "slide_queued", "slide_started",
           "slide_finished", "slide_archived")  # fmt: skip


def fill(site: Site, write_slide, numbers: range) -> None:
    """Write slides with different content into the inbox."""
    for number in numbers:
        write_slide(PICTURES[number % len(PICTURES)], f"{number:04}.tif", folder=site.inbox)


def kill_at(site: Site, moment: str, after_s: float) -> None:
    """Start a daemon, and kill it some time after it has logged an event."""
    before = site.events()[moment]
    process = site.start()
    patience = time.monotonic() + 15  # the event may never come; then kill it at any moment
    while moment != "start" and site.events()[moment] == before and time.monotonic() < patience:
        time.sleep(0.005)
    time.sleep(after_s)
    process.kill()
    process.wait()


def survive(site: Site, undisturbed: Site, write_slide, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    site.set("intake", on_success="move", archive=site.folder / "archive", settle_s=0.1)
    for number in range(kills):
        fill(site, write_slide, range(2 * number, 2 * number + 2))
        kill_at(site, rng.choice(MOMENTS), rng.uniform(0, 0.3))
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=2 * kills)
        site.wait_until(lambda: not list(site.inbox.iterdir()))
    fill(undisturbed, write_slide, range(2 * kills))
    with undisturbed.daemon():
        undisturbed.wait_for(JobState.DONE, jobs=2 * kills)

    assert site.integrity() == "ok"
    assert site.scores() == undisturbed.scores()
    assert site.runs() == 2 * kills
    assert Counter(job.state for job in site.jobs()) == {JobState.DONE: 2 * kills}
    kept = {path.name: path.read_bytes() for path in (site.folder / "archive").iterdir()}
    assert kept == {path.name: path.read_bytes() for path in undisturbed.inbox.iterdir()}


def test_a_daemon_killed_at_10_random_moments_loses_and_duplicates_no_result(
    site, tmp_path, color_bundle, write_slide
):
    survive(site, Site.made(tmp_path / "undisturbed", color_bundle), write_slide, 10, seed=4)


@pytest.mark.soak
def test_a_daemon_killed_500_times_loses_and_duplicates_no_result(
    site, tmp_path, color_bundle, write_slide
):
    kills = int(os.environ.get("SOAK_KILLS", "500"))
    survive(site, Site.made(tmp_path / "undisturbed", color_bundle), write_slide, kills, seed=5)
