"""An inbox on a share of another machine, which dies and hangs."""

from collections.abc import Iterator

import pytest
from daemon_site import Site
from share import Share, share

from her2d.intake import JobState

LARGE = ["Sw" * 8] * 12


@pytest.fixture
def inbox(site, tmp_path) -> Iterator[Share]:
    """The site's inbox, as a share."""
    with share(tmp_path / "behind", site.inbox) as found:
        yield found


def unreadable_tiles(site: Site) -> dict[str, int]:
    return {name: result.tiles_unreadable for name, result in site.results().items()}


def test_what_another_machine_writes_is_found_without_an_event(site, inbox, write_slide):
    site.set("intake", sweep_s=3600)
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=inbox.behind)
        site.wait_for(JobState.DONE)
    (polled,) = [line for line in site.lines() if line["event"] == "folder_polled"]
    assert polled["folder"] == str(site.inbox)


def test_a_share_that_dies_while_a_slide_is_read_costs_time_and_nothing_else(
    site, inbox, write_slide
):
    for name in ("a.tif", "b.tif", "c.tif"):
        write_slide(
            [*LARGE, {"a": "Sw", "b": "ww", "c": "hh"}[name[0]] * 8], name, folder=inbox.behind
        )
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_started"] > 0)
        inbox.die()
        site.wait_until(lambda: site.events()["folder_unreadable"] > 0)
        inbox.come_back()
        site.wait_for(JobState.DONE, jobs=3)
    assert site.runs() == len(site.jobs()) == 3
    assert unreadable_tiles(site) == {"a.tif": 0, "b.tif": 0, "c.tif": 0}


def test_a_share_that_hangs_is_told_and_waited_for(site, inbox, write_slide):
    site.set("intake", stalled_after_s=1.0)
    write_slide(LARGE, "a.tif", folder=inbox.behind)
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_started"] > 0)
        with inbox.hanging():
            site.wait_until(lambda: site.answer("/healthz")[0] == 503)
        site.wait_for(JobState.DONE)
        site.wait_until(lambda: site.answer("/healthz")[0] == 200)
    assert site.runs() == 1
    assert unreadable_tiles(site) == {"a.tif": 0}
