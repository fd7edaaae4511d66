"""Inboxes with very many or very deep folders: bounded cost, told once, and scans are found."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_site import Site
from deep_folders import nested_folders

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


@pytest.fixture
def nested(site) -> Iterator[Path]:
    """An inbox with 1,100 folders in each other."""
    with nested_folders(site.inbox):
        yield site.inbox


def told(site: Site, event: str) -> list[str]:
    return [line["reason"] for line in site.lines() if line["event"] == event]


def test_folders_nested_1100_deep_stop_no_inbox_and_are_told_once(site, nested, write_slide):
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=nested / "d" / "d")
        write_slide(["Sw"], "b.tif", folder=nested)
        site.wait_for(JobState.DONE, JobState.DUPLICATE, jobs=2)
        site.wait_until(lambda: bool(told(site, "inbox_folder_unreadable")))
        assert site.answer("/readyz")[0] == 200
    assert told(site, "inbox_folder_unreadable") == ["Folders are nested more than 100 deep"]
    assert told(site, "inbox_events_unavailable") == ["its folders are nested more than 100 deep"]


def test_folders_that_become_too_deep_under_a_running_daemon_stop_no_inbox(site, write_slide):
    with site.daemon():
        site.wait_until(lambda: site.events()["inbox_watched"] == 1)
        with nested_folders(site.folder) as made:
            made.rename(site.inbox / "d")
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        site.wait_until(lambda: site.events()["inbox_events_unavailable"] == 1)
        assert site.answer("/readyz")[0] == 200
    subprocess.run(["rm", "-rf", str(site.inbox / "d")], check=True)


def test_sweeps_of_5000_folders_do_not_overflow_the_queue_of_events(site, write_slide):
    for number in range(5000):
        (site.inbox / f"{number}").mkdir()
    with site.daemon():
        site.wait_until(lambda: site.events()["inbox_watched"] == 1)
        for number in range(3):
            write_slide(["Sw" * (number + 1)], f"{number}.tif", folder=site.inbox / f"{number}")
        site.wait_for(JobState.DONE, jobs=3)
    assert site.events()["inbox_events_overflowed"] == 0
    assert "queue overflowed" not in site.log.read_text()
