"""Many files at once, and a second daemon; the soak tests have a hundred times as many files."""

import os

import psutil
import pytest
from daemon_site import PATIENCE_S

from her2d.queue.job import JobState

FILES = 1000
MOST_GROWTH_MIB = 100
MOST_DESCRIPTORS = 60


@pytest.mark.slow
def test_1000_files_at_once_are_queued_without_opening_them_all(site, write_slide, tmp_path):
    original = write_slide(["S"], "original.tif", folder=tmp_path)
    with site.daemon() as daemon:
        process = psutil.Process(daemon.pid)
        before = process.memory_info().rss
        descriptors = [process.num_fds()]
        for number in range(FILES):
            os.link(original, site.inbox / f"{number}.tif")

        def ended() -> bool:
            descriptors.append(process.num_fds())
            return site.count(JobState.DUPLICATE) == FILES - 1

        site.wait_until(ended, patience_s=PATIENCE_S)
        growth = (process.memory_info().rss - before) / 2**20
    assert site.runs() == len(site.jobs(JobState.DONE)) == 1
    assert len(site.jobs()) == FILES
    assert growth < MOST_GROWTH_MIB
    assert max(descriptors) < MOST_DESCRIPTORS


@pytest.mark.slow
def test_a_second_daemon_is_refused_and_the_first_continues(site, write_slide):
    with site.daemon() as first:
        second = site.start()
        assert second.wait(PATIENCE_S) == 1
        assert f"Another her2d daemon (process {first.pid})" in site.log.read_text()
        write_slide(["S"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
    assert site.runs() == 1


@pytest.mark.slow
def test_a_daemon_whose_database_is_removed_stops(site):
    process = site.start()
    site.wait_until(lambda: site.events()["daemon_ready"] > 0)
    site.database.rename(site.folder / "elsewhere.sqlite")
    assert process.wait(PATIENCE_S) == 1
    assert "was removed or replaced" in site.log.read_text()
