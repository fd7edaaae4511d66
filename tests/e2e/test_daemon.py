"""The real daemon as a process, with real files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from incomplete_files import leave_out, overwrite_blocks

from her2d.queue.job import JobState
from her2d.simulator.scanner import WriteStyle, deliver


def test_files_from_before_and_after_the_start_get_results(site, write_slide):
    write_slide(["Sw"], "early.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
        write_slide(["ww"], "late.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=2)
    statuses = {name: result.her2_status for name, result in site.results().items()}
    assert statuses == {"early.tif": "positive", "late.tif": "negative"}


@pytest.mark.parametrize("style", list(WriteStyle))
def test_a_slide_gets_one_result_however_the_scanner_writes_it(
    served, write_slide, tmp_path, style
):
    name = f"{style}.tif"
    source = write_slide(["Sw", "ww"], name, folder=tmp_path)
    pace = source.stat().st_size / 1.5
    deliver(source, served.inbox / name, style=style, bytes_per_second=pace, pause_s=0.8)
    served.wait_for_job(served.inbox / name, JobState.DONE)
    assert served.results()[name].high_expression_percent == pytest.approx(25.0)
    assert len([job for job in served.jobs() if style in job.path.name]) == 1


def test_a_bad_file_is_quarantined_with_its_reason_and_the_next_file_is_processed(
    served, write_slide
):
    bad = served.inbox / "bad.tif"
    bad.write_bytes(b"\x89PNG and so on")
    assert served.wait_for_job(bad, JobState.QUARANTINED).reason
    good = write_slide(["S"], "good.tif", folder=served.inbox)
    served.wait_for_job(good, JobState.DONE)


@pytest.mark.parametrize(
    ("share", "reason"),
    [(0.001, "stays incomplete: it is cut short"), (0.5, "of its 4 tiles could not be read")],
    ids=["without directories", "without blocks"],
)
@pytest.mark.slow
def test_a_truncated_slide_is_quarantined_and_processed_once_it_is_complete(
    served, write_slide, tmp_path, share, reason
):
    name = f"truncated-{share}.tif"
    whole = write_slide(["ww", "wS"], name, folder=tmp_path).read_bytes()
    path = served.inbox / name
    path.write_bytes(whole[: int(len(whole) * share)])
    assert reason in served.wait_for_job(path, JobState.QUARANTINED).reason
    path.write_bytes(whole)
    served.wait_until(lambda: name in served.results())  # of another job, for another scan
    assert served.results()[name].her2_status == "positive"


@pytest.mark.slow
def test_a_truncated_slide_whose_call_is_certain_gets_a_result(served, write_slide, tmp_path):
    whole = write_slide(["SSS", "Sww"], "certain.tif", folder=tmp_path)
    with tifffile.TiffFile(whole) as tiff:
        last = tiff.pages[0].dataoffsets[-1]
    path = served.inbox / "certain.tif"
    path.write_bytes(whole.read_bytes()[:last])
    assert served.wait_for_job(path, JobState.DONE)
    result = served.results()["certain.tif"]
    assert (result.her2_status, result.tiles_unreadable) == ("positive", 1)
    assert result.unreadable_reason == "block 2,1 is cut short: the file ends inside it"


@pytest.mark.parametrize("last_is_stored", [False, True])
def test_a_scan_without_its_glass_is_not_waited_for(served, write_slide, tmp_path, last_is_stored):
    name = f"sparse-{last_is_stored}.tif"
    path = write_slide(["wS.", "..."], name, folder=tmp_path)
    leave_out(path, [2, 3, 4] if last_is_stored else [2, 3, 4, 5])
    shutil.move(path, served.inbox / name)
    assert served.wait_for_job(served.inbox / name, JobState.DONE)
    assert served.results()[name].high_expression_percent == pytest.approx(50.0)


@pytest.mark.slow
def test_an_unreadable_slide_goes_where_failures_go(site, write_slide, tmp_path):
    site.set("intake", on_success="move", on_failure="move")
    path = write_slide(["Sw"], "unreadable.tif", folder=tmp_path)
    overwrite_blocks(path, [0, 1])
    shutil.move(path, site.inbox / path.name)
    with site.daemon():
        site.wait_until(lambda: site.events()["slide_archived"] == 1)
    (job,) = site.jobs()
    assert (job.state, job.archived_path.parent.name) == (JobState.QUARANTINED, "quarantine")
    assert "none of its 2 tiles could be read (block 0,0" in job.reason


def test_a_copy_is_a_duplicate_that_points_to_the_result(served, write_slide):
    path = write_slide(["Sw"], "copied.tif", folder=served.inbox)
    served.wait_for_job(path, JobState.DONE)
    shutil.copy(path, served.inbox / "copy.tif")
    job = served.wait_for_job(served.inbox / "copy.tif", JobState.DUPLICATE)
    assert job.slide_id == served.results()["copied.tif"].slide_id
    assert "already processed" in job.reason


@pytest.mark.slow
def test_a_finished_slide_is_not_processed_again_after_a_restart(site, write_slide):
    write_slide(["S"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
    before = site.results()
    with site.daemon():
        write_slide(["w"], "b.tif", folder=site.inbox)  # once this is done, all was looked at
        site.wait_for(JobState.DONE, jobs=2)
    assert site.results()["a.tif"] == before["a.tif"]
    assert len(site.jobs()) == site.runs() == 2


@pytest.mark.slow
def test_an_inbox_that_is_created_after_the_start_is_watched(site, write_slide, tmp_path):
    site.inbox.rmdir()
    with site.daemon():
        site.wait_until(lambda: site.events()["inbox_folder_unreadable"] > 0)
        site.inbox.mkdir()
        write_slide(["S"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)


@pytest.mark.slow
def test_a_process_that_scores_slides_does_not_import_torch(site, write_slide):
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


def test_a_file_with_a_modification_time_in_the_far_future_is_processed(served, write_slide):
    odd = write_slide(["Sw"], "odd.tif", folder=served.inbox)
    os.utime(odd, (9.3e9, 9.3e9))  # the year 2264: more nanoseconds than SQLite's integers hold
    after = write_slide(["ww"], "after-odd.tif", folder=served.inbox)
    for path in (odd, after):
        served.wait_for_job(path, JobState.DONE)


def test_a_file_name_as_long_as_its_file_system_allows_gets_its_result(served, write_slide):
    name = "\N{CJK UNIFIED IDEOGRAPH-80C3}" * 83 + ".tif"  # 253 bytes
    path = write_slide(["Sw"], "short.tif").rename(served.inbox / name)
    served.wait_for_job(path, JobState.DONE)
    heatmap = Path(served.results()[name].heatmap_path)
    assert heatmap.is_file()
    assert heatmap.name.startswith("\N{CJK UNIFIED IDEOGRAPH-80C3}" * 60)


@pytest.mark.slow
def test_a_renamed_slide_is_a_duplicate_and_gets_the_new_path(served, write_slide):
    path = write_slide(["Sw"], "named.tif", folder=served.inbox)
    slide_id = served.wait_for_job(path, JobState.DONE).slide_id
    renamed = path.rename(served.inbox / "renamed.tif")
    assert served.wait_for_job(renamed, JobState.DUPLICATE).slide_id == slide_id
    (result,) = [r for r in served.results().values() if r.slide_id == slide_id]
    assert result.path == str(renamed)
    served.wait_until(lambda: "slide_renamed" in served.events())
    (result,) = [r for r in served.results().values() if r.slide_id == slide_id]
    assert Path(result.heatmap_path).name.startswith("renamed.")
    assert Path(result.heatmap_path).is_file()
    assert not list(Path(result.heatmap_path).parent.glob("named.*"))
    assert "renamed.tif" in served.command("show", "named.tif")


def test_two_copies_at_once_give_one_result_and_one_duplicate(served, write_slide):
    content = write_slide(["Sw" * 4] * 4, "twice.tif").read_bytes()
    names = {"twice-1.tif", "twice-2.tif"}
    for name in names:
        (served.inbox / name).write_bytes(content)

    def states() -> list[JobState]:
        return sorted(job.state for job in served.jobs() if job.path.name in names)

    served.wait_until(lambda: states() == sorted([JobState.DONE, JobState.DUPLICATE]))
    assert len(names & set(served.results())) == 1


def test_a_running_daemon_is_healthy_and_ready(served):
    assert served.answer("/healthz") == (200, "ok\n")
    assert served.answer("/readyz") == (200, "ok\n")
