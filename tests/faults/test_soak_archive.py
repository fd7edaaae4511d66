"""`make soak` scores 100,000 archived files with a daemon that is killed, and new scans first."""

import os
import time
from pathlib import Path

import psutil
import pytest
from daemon_site import PATIENCE_S, Site

from her2d.queue.job import JobState

pytestmark = pytest.mark.soak

FILES = int(os.environ.get("SOAK_ARCHIVE", "100000"))
SCORED = 20  # every so many-th file is a slide that no other is a copy of
KILLS = 4
FOLDER_FILES = 1000
MOST_MIB = 500
PATIENCE_OF_ALL_S = 40 * 3600


def archive_of(folder: Path, original: Path) -> int:
    """Fill a folder with slides and their copies, and return how many slides differ."""
    content = original.read_bytes()
    placeholder = b"Barcode = original"
    assert content.count(placeholder) == 1
    for number in range(FILES):
        into = folder / f"{number // FOLDER_FILES:03}"
        into.mkdir(parents=True, exist_ok=True)
        path = into / f"{number:06}.tif"
        if number % SCORED == 0:
            path.write_bytes(content.replace(placeholder, b"Barcode = %08d" % number))
            latest = path
        else:
            os.link(latest, path)
    return len(range(0, FILES, SCORED))


def ended(site: Site) -> int:
    return site.count(JobState.DONE, JobState.DUPLICATE)


def test_an_archive_is_scored_whole_by_a_daemon_that_is_killed_and_new_scans_go_first(
    site, write_slide, tmp_path
):
    archive = tmp_path / "archive"
    distinct = archive_of(archive, write_slide(["S"], "original.tif", folder=tmp_path))
    began, scans, rss_mib = time.monotonic(), 0, 0.0

    def wait_for_files(files: int, daemon: psutil.Process) -> None:
        nonlocal rss_mib
        while ended(site) - scans < files:
            assert daemon.is_running(), site.log.read_text()[-5000:]
            rss_mib = max(rss_mib, daemon.memory_info().rss / 2**20)
            assert time.monotonic() - began < PATIENCE_OF_ALL_S
            time.sleep(0.5)

    for kill in range(KILLS):
        process = site.start()
        try:
            site.wait_until(lambda kill=kill: site.events()["daemon_ready"] > kill)
            if kill == 0:
                site.command("backfill", str(archive))
            wait_for_files((kill + 1) * FILES // (KILLS + 1), psutil.Process(process.pid))
            scan = write_slide(["Sw" * (kill + 1)], f"new-{kill}.tif", folder=site.inbox)
            site.wait_for_job(scan, JobState.DONE)
            scans += 1
            assert ended(site) - scans < FILES  # the archive waited
        finally:
            process.kill()
            process.wait(PATIENCE_S)
    with site.daemon() as last:
        site.command("backfill", "--pause")
        time.sleep(5)
        paused = ended(site)
        time.sleep(5)
        assert ended(site) == paused
        site.command("backfill", "--resume")
        wait_for_files(FILES, psutil.Process(last.pid))
        taken = time.monotonic() - began
        progress = site.command("backfill")
    print(  # noqa: T201
        f"\n{FILES} files, {distinct} of them different slides, in {taken / 60:.0f} min;"
        f" peak RSS {rss_mib:.0f} MiB\n{progress}"
    )
    assert site.count(JobState.DONE) == distinct + scans
    assert site.runs() == distinct + scans
    assert site.count(JobState.DUPLICATE) == FILES - distinct
    assert sum(1 for _ in site.jobs(JobState.FAILED)) == 0
    assert site.integrity() == "ok"
    assert rss_mib < MOST_MIB
