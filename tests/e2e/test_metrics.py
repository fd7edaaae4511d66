"""/metrics of a real daemon."""

import contextlib
import os
import shutil
import sqlite3
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from her2d.bundle.loading import load_bundle
from her2d.inference.plans import PlanFiles
from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


def metrics(site) -> dict[str, float]:
    """Return the values that the daemon serves, by name and labels."""
    status, text = site.answer("/metrics")
    assert status == 200
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_restart_beside_an_unfinished_file_looks_like_no_backlog(site, write_slide):
    """The file was found two hours ago, and the new daemon has waited for it for a moment."""
    site.set("intake", incomplete_after_s=3600)
    scan = write_slide(["Sw"], "unfinished.tif", folder=site.folder)
    os.truncate(scan, scan.stat().st_size // 2)
    scan.rename(site.inbox / scan.name)
    with site.daemon():
        site.wait_until(lambda: any(job.reason for job in site.jobs(JobState.SETTLING)))
        found = metrics(site)
        assert (found["her2d_oldest_waiting_seconds"], found["her2d_overdue_files"]) == (0, 0)
    with contextlib.closing(sqlite3.connect(site.database)) as db, db:
        hours_ago = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - 7200))
        db.execute("update jobs set discovered_at = ?1, settling_since = ?1", [hours_ago])
        db.execute("update events set at = ?", [hours_ago])
    with site.daemon():
        found = metrics(site)
        assert (found["her2d_backlog_files"], found["her2d_jobs,settling"]) == (1, 1)
        assert (found["her2d_oldest_waiting_seconds"], found["her2d_overdue_files"]) == (0, 0)
        assert found["her2d_oldest_unfinished_seconds"] == pytest.approx(7200, abs=600)


def test_all_timestamps_are_of_the_clock_that_is_served_with_them(site):
    before = time.time()
    with site.daemon():
        found = metrics(site)
        at = found["her2d_time_seconds"]
        assert before <= found["her2d_progress_timestamp_seconds"] <= at <= time.time()


def test_each_part_of_the_readiness_is_reported(site):
    with site.daemon():
        found = metrics(site)
        parts = {name for name in found if name.startswith("her2d_part_ready,")}
        assert {name.partition(",")[2] for name in parts} == {
            "inboxes",
            "disk",
            "passes",
            "slides",
            "results",
            "archive",
        }
        assert {found[name] for name in parts} == {1}
        site.inbox.rmdir()
        site.wait_until(lambda: metrics(site)["her2d_part_ready,inboxes"] == 0)
        found = metrics(site)
        assert (found["her2d_ready"], found["her2d_part_ready,results"]) == (0, 1)
        site.inbox.mkdir()


def test_a_plan_that_is_not_used_is_counted(site, color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    copied = load_bundle(tmp_path / "bundle")
    PlanFiles(copied, "tensorrt", "fp16").sidecar.write_text("{}")
    site.set("bundle", path=copied.directory)
    with site.daemon():
        assert metrics(site)["her2d_unused_plans"] == 1
    assert site.events()["plan_not_used"] == 1
