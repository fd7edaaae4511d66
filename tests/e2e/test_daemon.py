"""The real daemon, as a process, on real files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from her2d.queue.job import JobState
from her2d.simulator.scanner import WriteStyle, deliver


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


def test_a_truncated_slide_is_waited_for_reported_and_taken_up_when_complete(
    site, write_slide, tmp_path
):
    whole = write_slide(["Sw"], "whole.tif", folder=tmp_path).read_bytes()
    path = site.inbox / "a.tif"
    path.write_bytes(whole[: len(whole) // 2])
    with site.daemon():
        site.wait_until(lambda: any(job.overdue_at for job in site.jobs(JobState.SETTLING)))
        assert "stays incomplete" in site.jobs()[0].reason
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


def test_a_slide_that_is_done_is_left_alone_at_the_next_start(site, write_slide):
    write_slide(["S"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
    before = site.results()
    with site.daemon():
        write_slide(["w"], "b.tif", folder=site.inbox)  # once this is done, all was looked at
        site.wait_for(JobState.DONE, jobs=2)
    assert site.results()["a.tif"] == before["a.tif"]
    assert len(site.jobs()) == site.runs() == 2


def test_an_inbox_that_appears_late_is_watched_then(site, write_slide, tmp_path):
    site.inbox.rmdir()
    with site.daemon():
        site.wait_until(lambda: site.events()["inbox_folder_unreadable"] > 0)
        site.inbox.mkdir()
        write_slide(["S"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)


def test_a_process_that_scores_slides_has_no_torch_in_it(site, write_slide):
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    code = (
        "import sys, atexit;"
        "atexit.register(lambda: print([m for m in ('torch', 'monai', 'onnx', 'xgboost',"
        " 'her2d.research.networks', 'her2d.simulator') if m in sys.modules]));"
        "import her2d.daemon.service;"
        "from her2d.cli import main;"
        "main()"
    )
    command = [sys.executable, "-c", code, "scan", str(site.inbox), "--config", str(site.config)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "a.tif" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_file_from_the_far_future_is_done_like_any_other(site, write_slide):
    odd = write_slide(["Sw"], "odd.tif", folder=site.inbox)
    os.utime(odd, (9.3e9, 9.3e9))  # the year 2264: more nanoseconds than SQLite's integers hold
    write_slide(["ww"], "good.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=2)


def test_a_file_name_as_long_as_its_file_system_allows_gets_its_result(site, write_slide):
    name = "\N{CJK UNIFIED IDEOGRAPH-80C3}" * 83 + ".tif"  # 253 bytes
    write_slide(["Sw"], "short.tif").rename(site.inbox / name)
    with site.daemon():
        site.wait_for(JobState.DONE)
    heatmap = Path(site.results()[name].heatmap_path)
    assert heatmap.is_file()
    assert heatmap.name.startswith("\N{CJK UNIFIED IDEOGRAPH-80C3}" * 60)
