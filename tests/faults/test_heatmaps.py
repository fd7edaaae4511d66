"""A folder of heatmaps that cannot be written, or hangs, is told at once and loses nothing."""

import subprocess
from collections.abc import Iterator

import pytest
from daemon_site import Site
from share import Share, share

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


@pytest.fixture
def heatmaps(site, tmp_path) -> Iterator[Share]:
    """The heatmaps' folder on a share that can hang."""
    (tmp_path / "mounted").mkdir()
    with share(tmp_path / "behind", tmp_path / "mounted") as found:
        site.set("results", heatmaps=found.mounted)
        yield found


def is_told(site: Site, reason: str) -> None:
    """Check that readiness, metrics and log tell that no result can be recorded."""
    assert reason in site.wait_for_503("/readyz")
    assert site.answer("/healthz") == (200, "ok\n")
    site.wait_until(lambda: "her2d_results_writable 0.0" in site.answer("/metrics")[1])
    assert "her2d_ready 0.0" in site.answer("/metrics")[1]


def test_a_share_of_heatmaps_that_hangs_is_told_and_slides_go_on_when_it_answers(
    site, heatmaps, write_slide
):
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        with heatmaps.hanging():
            site.wait_until(lambda: site.events()["results_storage_not_answering"] == 1)
            is_told(site, "the storage of results does not answer.")
            write_slide(["ww"], "b.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=2)
        site.wait_until(lambda: site.answer("/readyz") == (200, "ok\n"))
    assert site.events()["intake_resumed"] == 1
    assert {job.attempts for job in site.jobs()} == {1}


def test_a_heatmaps_folder_that_cannot_be_written_is_told_and_costs_no_attempt(
    site, small_disk, write_slide
):
    disk = small_disk(8)
    site.set("results", heatmaps=disk / "heatmaps")
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        write_slide(["ww"], "b.tif", folder=site.inbox)
        is_told(site, f"The heatmaps' folder {disk / 'heatmaps'} cannot be written: Read-only")
        site.wait_until(lambda: site.events()["results_unwritable"] > 0)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        site.wait_for(JobState.DONE, jobs=2)
        site.wait_until(lambda: site.answer("/readyz") == (200, "ok\n"))
    assert {job.attempts for job in site.jobs()} == {1}
