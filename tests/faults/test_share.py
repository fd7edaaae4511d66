"""An inbox on a network share, which fails and hangs.

A call that is in the share when it begins to hang waits with it, and if it is the daemon's own
thread's, systemd's watchdog ends it: what happens in all other cases is seen here.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_site import PATIENCE_S, Site
from share import Share, share

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

LARGE = ["Sw" * 16] * 2  # 160 kB
BYTES_PER_S = 30_000


@pytest.fixture
def inbox(site, tmp_path) -> Iterator[Share]:
    """The site's inbox, as a share."""
    with share(tmp_path / "behind", site.inbox) as found:
        yield found


@pytest.fixture
def slow(inbox) -> None:
    """Let the share take seconds to read a large slide, so that it fails or hangs meanwhile."""
    inbox.slow_down(BYTES_PER_S)


def tries(inbox: Share, write_slide: Callable[..., Path]) -> Iterator[int]:
    """Write one more large slide for each try, and yield how many there are.

    On a machine under load, a slide may be over before the share begins to hang.
    """
    for number in range(1, 21):
        last = f"{number:032b}".translate({ord("0"): "w", ord("1"): "S"})
        write_slide([*LARGE, last], f"{number}.tif", folder=inbox.behind)
        yield number
    raise AssertionError("no slide was being read when the share began to hang")


@pytest.fixture
def unpolled(site) -> None:
    """Set a long `poll_s`, so that no thread accesses the share when it begins to hang."""
    site.set("intake", poll_s=3600, sweep_s=3600)


@pytest.fixture
def local(site, inbox, tmp_path) -> Path:
    """A second inbox, on this machine."""
    folder = tmp_path / "local"
    folder.mkdir()
    site.set("intake", inboxes=[str(inbox.mounted), str(folder)])
    return folder


def wait_for_start(site: Site, slides: int) -> None:
    """Wait until so many slides have been started."""
    site.wait_until(lambda: site.events()["slide_started"] >= slides)


def ends(site: Site) -> int:
    """Return how often a daemon has stopped, or was told to stop at once."""
    return site.events()["stop_forced"] + site.events()["daemon_stopped"]


def unreadable_tiles(site: Site) -> dict[str, int]:
    return {name: result.tiles_unreadable for name, result in site.results().items()}


def test_a_file_that_another_machine_writes_is_found_without_an_event(site, inbox, write_slide):
    site.set("intake", sweep_s=3600)
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=inbox.behind)
        site.wait_for(JobState.DONE)
    (polled,) = [line for line in site.lines() if line["event"] == "inbox_folder_polled"]
    assert polled["folder"] == str(site.inbox)


@pytest.mark.usefixtures("slow")
def test_a_share_that_fails_while_slides_are_read_delays_them_and_loses_none(
    site, inbox, write_slide
):
    for name, last in (("a.tif", "S"), ("b.tif", "w"), ("c.tif", "h")):
        write_slide([*LARGE, last * 32], name, folder=inbox.behind)
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_started"] > 0)
        inbox.die()
        site.wait_until(lambda: site.events()["inbox_folder_unreadable"] > 0)
        inbox.come_back()
        site.wait_for(JobState.DONE, jobs=3)
    assert site.runs() == len(site.jobs()) == 3
    assert unreadable_tiles(site) == {"a.tif": 0, "b.tif": 0, "c.tif": 0}


@pytest.mark.usefixtures("unpolled")
def test_a_share_that_hangs_does_not_delay_other_inboxes_and_is_reported(
    site, inbox, local, write_slide
):
    write_slide(["Sw"], "a.tif", folder=inbox.behind)
    with site.daemon():
        site.wait_for(JobState.DONE)
        with inbox.hanging():
            site.wait_until(lambda: site.events()["inbox_not_answering"] == 1)
            write_slide(["ww"], "b.tif", folder=local)
            site.wait_for(JobState.DONE, jobs=2)
            assert site.answer("/readyz") == (503, f"The inbox {inbox.mounted} does not answer.\n")
            assert site.answer("/healthz") == (200, "ok\n")
            assert "her2d_unreachable_inboxes 1.0" in site.answer("/metrics")[1]
            write_slide(["wS"], "c.tif", folder=inbox.behind)
        site.wait_for(JobState.DONE, jobs=3)
        site.wait_until(lambda: site.answer("/readyz") == (200, "ok\n"))
    assert site.events()["inbox_answers_again"] == site.events()["inbox_not_answering"] == 1
    assert site.runs() == 3


@pytest.mark.usefixtures("unpolled", "slow")
def test_a_slide_whose_share_hangs_while_it_is_read_continues_when_the_share_answers(
    site, inbox, write_slide
):
    for slides in tries(inbox, write_slide):
        with site.daemon():
            wait_for_start(site, slides)
            with inbox.hanging():
                site.wait_for_503("/readyz")
                is_read = site.count(JobState.RUNNING) == 1
            site.wait_for(JobState.DONE, jobs=slides)
        if is_read:
            break
    assert site.runs() == len(site.jobs()) == slides
    assert set(unreadable_tiles(site).values()) == {0}


@pytest.mark.usefixtures("unpolled", "slow")
def test_a_daemon_that_starts_while_a_share_hangs_processes_the_other_inbox(
    site, inbox, local, write_slide
):
    """As after a restart by systemd's watchdog; slides on the share wait and block no thread."""
    for slides in tries(inbox, write_slide):
        killed = site.start()
        wait_for_start(site, slides)
        killed.kill()
        killed.wait(PATIENCE_S)
        if site.count(JobState.RUNNING) == 1:
            break
    with inbox.hanging(), site.daemon():
        site.wait_for(JobState.SETTLING)
        write_slide(["ww"], "b.tif", folder=local)
        site.wait_for_job(local / "b.tif", JobState.DONE)
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=slides + 1)
    assert set(unreadable_tiles(site).values()) == {0}
    assert site.runs() == len(site.jobs()) == slides + 1


@pytest.mark.usefixtures("unpolled", "slow")
def test_a_daemon_stops_while_a_share_hangs(site, inbox, write_slide):
    site.set("pipeline", drain_s=0)
    for slides in tries(inbox, write_slide):
        daemon = site.start()
        wait_for_start(site, slides)
        before = ends(site)
        with inbox.hanging():
            site.wait_for_503("/readyz")
            is_read = site.count(JobState.RUNNING) == 1
            daemon.terminate()
            site.wait_until(lambda: ends(site) > before)  # noqa: B023  it is called at once
        daemon.wait(PATIENCE_S)  # a request that the server has taken keeps even a killed process
        if is_read:
            break
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=slides)
    assert site.runs() == len(site.jobs()) == slides


@pytest.mark.usefixtures("unpolled")
def test_a_share_that_hangs_can_be_removed_from_the_settings(site, inbox, local, write_slide):
    """Its unfinished files wait, and block no thread."""
    site.set("intake", settle_s=5)  # and looked at so often
    whole = write_slide(["Sw"], "whole.tif", folder=site.folder).read_bytes()
    (inbox.behind / "a.tif").write_bytes(whole[: len(whole) // 2])
    with site.daemon() as daemon:
        site.wait_for(JobState.SETTLING)
        with inbox.hanging():
            site.wait_until(lambda: site.events()["inbox_not_answering"] == 1)
            site.set("intake", inboxes=[str(local)])
            daemon.send_signal(signal.SIGHUP)
            site.wait_until(lambda: site.events()["settings_reloaded"] == 1)
            write_slide(["ww"], "b.tif", folder=local)
            site.wait_for(JobState.DONE)
            assert site.answer("/readyz") == (200, "ok\n")
        (inbox.behind / "a.tif").write_bytes(whole)
        site.wait_for(JobState.DONE, jobs=2)


@pytest.mark.usefixtures("unpolled")
def test_copies_of_a_slide_on_a_share_that_hangs_block_no_worker(site, inbox, local, write_slide):
    original = write_slide(["Sw"], "a.tif", folder=inbox.behind)
    with site.daemon():
        site.wait_for(JobState.DONE)
        with inbox.hanging():
            site.wait_until(lambda: site.events()["inbox_not_answering"] == 1)
            for name in ("copy.tif", "another.tif"):
                (local / name).write_bytes(original.read_bytes())
            site.wait_for(JobState.DUPLICATE, jobs=2)
            write_slide(["ww"], "b.tif", folder=local)
            site.wait_for(JobState.DONE, jobs=2)
    assert site.results()["a.tif"].path == str(inbox.mounted / "a.tif")
