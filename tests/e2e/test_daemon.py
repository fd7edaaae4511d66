"""The real daemon, as a process, on real files."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from her2d.database import open_database, open_readonly
from her2d.intake import JobQueue, JobState
from her2d.results import SlideResult, list_results
from her2d.simulator import WriteStyle, deliver

PATIENCE_S = 60


@dataclass(frozen=True)
class Site:
    """An inbox, a database and a way to run a daemon between them."""

    folder: Path

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def database(self) -> Path:
        return self.folder / "her2d.sqlite"

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "her2d", "run", "--config", str(self.folder / "config.toml")],
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[str]]:
        process = self.start()
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, log
        assert "Traceback" not in log, log
        assert json.loads(log.splitlines()[-1])["event"] == "daemon_stopped"

    def results(self) -> dict[str, SlideResult]:
        return {result.file_name: result for result in list_results(open_readonly(self.database))}

    def jobs(self, *states: JobState):
        return JobQueue(open_readonly(self.database)).in_state(*states)

    def wait_for(self, *states: JobState, jobs: int = 1):
        """Return the jobs in `states` once there are as many as `jobs`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                if len(found := self.jobs(*states)) >= jobs:
                    return found
            time.sleep(0.05)
        raise AssertionError(
            f"no {jobs} {states} in {self.jobs() if self.database.exists() else 0}"
        )


@pytest.fixture
def site(tmp_path, color_bundle) -> Site:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n'
        "[intake]\nsettle_s = 0.4\nsweep_s = 1.0\nincomplete_after_s = 3.0\n"
        '[inference]\nthreads = 1\n[ops]\nport = 0\nlog_format = "json"\n'
    )
    return Site(tmp_path)


def test_files_that_wait_at_the_start_and_files_that_come_later_get_results(site, write_slide):
    write_slide(["Sw"], "early.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
        write_slide(["ww"], "late.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=2)
    statuses = {name: result.her2_status for name, result in site.results().items()}
    assert statuses == {"early.tif": "positive", "late.tif": "negative"}


@pytest.mark.parametrize("style", list(WriteStyle))
def test_however_a_scanner_writes_its_slide_gets_one_result(site, write_slide, tmp_path, style):
    source = write_slide(["Sw", "ww"], "source.tif", folder=tmp_path)
    pace = source.stat().st_size / 1.5
    with site.daemon():
        deliver(source, site.inbox / "a.tif", style=style, bytes_per_second=pace, pause_s=0.8)
        site.wait_for(JobState.DONE)
    assert site.results()["a.tif"].high_expression_percent == pytest.approx(25.0)
    assert len(site.jobs()) == 1


def test_a_bad_file_is_quarantined_with_its_reason_and_the_next_is_done(site, write_slide):
    (site.inbox / "bad.tif").write_bytes(b"\x89PNG and so on")
    with site.daemon():
        (job,) = site.wait_for(JobState.QUARANTINED)
        write_slide(["S"], "good.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
    assert job.path.name == "bad.tif"
    assert job.reason


def test_a_truncated_slide_is_waited_for_then_quarantined_and_taken_up_when_complete(
    site, write_slide, tmp_path
):
    whole = write_slide(["Sw"], "whole.tif", folder=tmp_path).read_bytes()
    path = site.inbox / "a.tif"
    path.write_bytes(whole[: len(whole) // 2])
    with site.daemon():
        (job,) = site.wait_for(JobState.QUARANTINED)
        assert "stayed incomplete" in job.reason
        path.write_bytes(whole)
        site.wait_for(JobState.DONE)
    assert site.results()["a.tif"].her2_status == "positive"


def test_a_copy_is_a_duplicate_that_points_to_the_result(site, write_slide):
    path = write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
        shutil.copy(path, site.inbox / "copy.tif")
        (job,) = site.wait_for(JobState.DUPLICATE)
    assert job.slide_id == site.results()["a.tif"].slide_id
    assert "already processed" in job.reason


def test_a_killed_daemons_slides_are_finished_by_the_next(site, write_slide):
    for number in range(4):
        write_slide(["Sw" + "w" * number] * 4, f"{number}.tif", folder=site.inbox)
    process = site.start()
    site.wait_for(JobState.RUNNING, JobState.DONE)
    process.kill()
    process.communicate()
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=4)
    assert len(site.results()) == 4
    db = open_database(site.database)
    assert db.table("runs").count == 4
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_a_daemon_with_nothing_to_do_stops_at_once_and_changes_nothing(site, write_slide):
    write_slide(["S"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
    before = site.results()
    with site.daemon():
        time.sleep(2)
    assert site.results() == before
    assert len(site.jobs()) == 1


def test_two_daemons_on_one_database_are_refused_by_name(site):
    with site.daemon() as first:
        deadline = time.monotonic() + PATIENCE_S
        while not site.database.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = site.start()
        _, log = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 1
        assert f"process {first.pid}" in log


def test_an_inbox_that_appears_late_is_watched_then(site, write_slide, tmp_path):
    site.inbox.rmdir()
    with site.daemon():
        time.sleep(1.5)
        site.inbox.mkdir()
        write_slide(["S"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)


def test_the_daemon_has_no_torch_in_it():
    code = (
        "import sys, her2d.daemon, her2d.cli;"
        "print([m for m in ('torch', 'monai', 'onnx', 'her2d.networks', 'her2d.simulator')"
        " if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert found.stdout == "[]\n"
