"""Full disks, locked databases, and folders and permissions that disappear and return."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from her2d.archive.safe_move import part_of
from her2d.queue.job import JobState
from her2d.system.file_identity import content_hash

pytestmark = pytest.mark.slow

WITHOUT_DATABASE = (
    "archive_database_unavailable",
    "database_unavailable",
    "worker_database_unavailable",
    "write_waits_for_database",
)
LOCKED_S = float(os.environ.get("SOAK_LOCKED_S", "12"))  # 60 in `make soak`


def test_a_full_disk_delays_slides_and_loses_none(site, write_slide, small_disk):
    disk = small_disk(24)
    site.set("results", database=disk / "her2d.sqlite", heatmaps=disk / "heatmaps")
    site = type(site)(site.folder, disk / "her2d.sqlite")
    with site.daemon():
        write_slide(["Sw"], "before.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        filler = disk / "filler"
        fill_up(filler)
        for number in range(4):
            write_slide(["wS", "ww"], f"{number}.tif", folder=site.inbox)
        site.wait_until(
            lambda: bool(
                {*WITHOUT_DATABASE, "results_unwritable"} & set(site.events())
                and site.events()["slide_discovered"] + without_database(site) > 1
            )
        )
        filler.unlink()
        site.wait_for(JobState.DONE, jobs=5)
    assert len(site.results()) == site.runs() == 5
    assert site.integrity() == "ok"


def without_database(site) -> int:
    """Count the log lines about an unavailable database."""
    return sum(site.events()[event] for event in WITHOUT_DATABASE)


def fill_up(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_intake_pauses_before_the_disk_is_full_and_resumes_automatically(
    site, write_slide, small_disk
):
    disk = small_disk(32)
    site.set("results", database=disk / "her2d.sqlite", heatmaps=disk / "heatmaps")
    site.set("intake", min_free_mb=16)
    site = type(site)(site.folder, disk / "her2d.sqlite")
    with site.daemon():
        filler = disk / "filler"
        filler.write_bytes(bytes(20 << 20))
        site.wait_until(lambda: site.events()["intake_paused"] == 1)
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        time.sleep(2)
        assert site.jobs() == []
        filler.unlink()
        site.wait_for(JobState.DONE)
    assert site.events()["intake_resumed"] == 1
    assert without_database(site) == 0


def test_the_daemon_waits_for_a_database_that_is_locked_for_long(site, write_slide):
    with site.daemon():
        write_slide(["Sw"] * 8, "a.tif", folder=site.inbox)
        site.wait_for(JobState.RUNNING, JobState.DONE)
        other = sqlite3.connect(site.database, isolation_level=None, timeout=60)
        other.execute("begin exclusive")
        write_slide(["ww"], "b.tif", folder=site.inbox)
        time.sleep(LOCKED_S)
        other.execute("rollback")
        other.close()
        site.wait_for(JobState.DONE, jobs=2)
    assert len(site.results()) == site.runs() == 2
    assert {job.attempts for job in site.jobs()} == {1}


def test_the_slides_of_an_inbox_that_disappears_and_returns_are_processed(
    site, write_slide, tmp_path
):
    for number in range(6):
        write_slide(["Sw", "ww"], f"{number}.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.QUEUED, JobState.RUNNING, JobState.DONE)
        site.inbox.rename(tmp_path / "away")
        site.wait_until(lambda: site.events()["inbox_folder_unreadable"] > 0)
        (tmp_path / "away").rename(site.inbox)
        site.wait_for(JobState.DONE, jobs=6)
        write_slide(["w"], "later.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=7)
    assert len(site.results()) == site.runs() == len(site.jobs()) == 7


def test_an_archive_that_hangs_delays_no_slide_and_is_reported_until_it_answers(
    site, write_slide, hanging_archive
):
    site.set("intake", on_success="move", archive=hanging_archive, stalled_after_s=3.0)
    site.set("pipeline", slides_in_flight=1)
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon():  # which also checks that it stops cleanly
        site.wait_until(lambda: site.events()["archive_stalled"] > 0)
        write_slide(["ww"], "b.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=2)
        assert site.answer("/healthz")[0] == 200
        code, why = site.answer("/readyz")
        assert code == 503
        assert "Moving finished files has made no progress for" in why
    assert site.events()["archive_stalled"] == site.events()["archive_thread_not_stopped"] == 1
    part_of(hanging_archive / "a.tif").unlink()  # the share answers again
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_archived"] == 2)
        assert site.answer("/readyz")[0] == 200
    assert {path.name for path in hanging_archive.iterdir()} == {"a.tif", "b.tif"}
    assert list(site.inbox.iterdir()) == []


@pytest.fixture
def without_privileges() -> tuple[str, ...]:
    """Return a prefix that runs a command without root's exemption from permissions."""
    if os.geteuid() != 0:
        return ()
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root cannot drop its privileges here")
    return prefix


def test_lost_permission_delays_slides_and_loses_none(site, write_slide, without_privileges):
    closed = write_slide(["Sw"], "closed.tif", folder=site.inbox)
    hidden = site.inbox / "hidden"
    hidden.mkdir()
    write_slide(["ww"], "hidden.tif", folder=hidden)
    closed.chmod(0)
    hidden.chmod(0)
    with site.daemon(prefix=without_privileges):
        write_slide(["tS"], "open.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        site.wait_until(lambda: any(job.overdue_at for job in site.jobs(JobState.SETTLING)))
        assert "Permission denied" in site.jobs(JobState.SETTLING)[0].reason
        assert site.events()["inbox_folder_unreadable"] == 1
        closed.chmod(0o644)
        hidden.chmod(0o755)
        site.wait_for(JobState.DONE, jobs=3)
    assert set(site.results()) == {"closed.tif", "hidden.tif", "open.tif"}


def test_a_slide_that_grows_while_it_is_read_is_read_again(site, write_slide):
    path = write_slide(["Sw" * 8] * 16, "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_started"] > 0)
        append_until(path, lambda: site.events()["slide_changed_while_read"] > 0)
        site.wait_for(JobState.DONE)
    assert site.runs() == len(site.jobs()) == 1
    assert site.results()["a.tif"].content_hash == content_hash(path)


def append_until(path: Path, condition) -> None:
    """Append to a TIFF, which stays valid, until `condition` returns True."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        with path.open("ab") as file:
            file.write(b"more")
        time.sleep(0.1)


def test_if_settings_cannot_be_read_at_a_reload_the_old_ones_stay(
    site, write_slide, without_privileges
):
    with site.daemon(prefix=without_privileges) as daemon:
        mode = site.config.stat().st_mode
        site.config.chmod(0)
        daemon.send_signal(signal.SIGHUP)
        site.wait_until(lambda: site.events()["settings_refused"] == 1)
        site.config.chmod(mode)
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
