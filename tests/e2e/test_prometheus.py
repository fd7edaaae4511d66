"""A real Prometheus that scrapes a real daemon."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from calibrations import write_calibration
from daemon_site import Site
from prometheus_server import Prometheus, needs_prometheus, prometheus

from her2d.queue.job import JobState

MOST_SERIES = 400
DASHBOARD = Path(__file__).parents[2] / "systemd" / "monitoring" / "grafana-dashboard.json"
NVML = Path(__file__).parents[1] / "doubles" / "nvml"  # a simulated GPU

pytestmark = [pytest.mark.slow, needs_prometheus]


@pytest.fixture
def scraped(site: Site, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a running daemon."""
    with site.daemon(PYTHONPATH=str(NVML)), prometheus(tmp_path, site.port()) as server:
        server.wait_for("her2d_build_info")
        yield server


def test_promql_queries_return_what_happened(site, scraped, write_slide):
    write_slide(["Sw", "s."], "a.tif", folder=site.inbox)
    write_slide(["ww"], "b.tif", folder=site.inbox)
    (site.inbox / "bad.tif").write_bytes(b"no slide")
    site.wait_for(JobState.DONE, jobs=2)
    site.wait_for(JobState.QUARANTINED)
    # What a worker counts last, and what a scrape finds in the database.
    at = scraped.when(
        "sum(her2d_tiles_total) == 6 and on () her2d_day_results == 2"
        " and on () her2d_jobs{state='done'} == 2 and on () her2d_jobs{state='quarantined'} == 1"
    )
    assert scraped.query("her2d_slide_results_total", at) == {
        "positive": 1,
        "negative": 1,
        "indeterminate": 0,
    }
    assert scraped.query("her2d_indeterminate_slides_total", at)["no-tumor"] == 0
    assert scraped.query("her2d_tiles_total", at) == {
        "strong": 1,
        "weak": 3,
        "non_tumor": 1,
        "background": 1,
        "unreadable": 0,
        "tumor": 0,
    }
    assert scraped.query('her2d_jobs{state=~"done|quarantined"}', at) == {
        "done": 2,
        "quarantined": 1,
    }
    assert scraped.query("her2d_stage_tiles_total", at) == {
        "upload": 5,
        "segment": 5,
        "classify": 4,
    }
    assert scraped.query("her2d_decode_tiles_total", at) == {"": 6}
    assert scraped.query("her2d_decode_wait_seconds_total", at)[""] > 0
    assert scraped.query("her2d_stage_wait_seconds_count", at) == {
        "upload": 5,
        "segment": 5,
        "classify": 4,
    }
    assert scraped.query("her2d_slide_settle_seconds_count", at) == {"": 2}
    assert scraped.query("her2d_slide_step_seconds_count", at) == {
        "hash": 2,
        "tiles": 2,
        "pictures": 2,
    }
    assert scraped.query("her2d_scan_to_result_seconds_count", at) == {"": 2}
    assert scraped.query("her2d_day_positive_ratio", at) == {"": 0.5}
    assert scraped.query("her2d_day_tumor_tile_ratio", at) == {"": 0.8}
    assert scraped.query("her2d_day_high_expression_ratio{quantile='0.75'}", at)["0.75"] > 0
    assert scraped.query("her2d_day_stain_distance", at)[""] > 0
    assert scraped.query("her2d_day_saturation_distance", at)[""] > 0
    assert 0 < scraped.query("her2d_day_saturation", at)[""] < 255
    assert scraped.query("her2d_gpu_memory_used_bytes", at) == {"0": 2**30, "1": 2**31}
    assert scraped.query("her2d_gpu_memory_size_bytes", at) == {"0": 24 * 2**30, "1": 24 * 2**30}
    assert scraped.query("her2d_gpu_busy_ratio", at) == {"0": 0.35}
    assert scraped.query("her2d_backlog_files", at) == {"": 0}
    assert scraped.query("her2d_oldest_waiting_seconds", at) == {"": 0}
    assert scraped.query("time() - her2d_last_success_timestamp_seconds < 60", at)
    assert scraped.query("time() - her2d_last_scan_timestamp_seconds < 60", at)
    assert set(scraped.query("her2d_disk_free_bytes / her2d_disk_size_bytes < 1", at)) == {
        "database",
        "heatmaps",
        "inbox",
    }


def test_no_label_contains_a_slides_name_and_there_are_few_series(site, scraped, write_slide):
    for number in range(6):
        write_slide(["w" * (number + 1)], f"secret-{number}.tif", folder=site.inbox)
    site.wait_for(JobState.DONE, jobs=6)
    scraped.wait_for("her2d_day_results == 6")
    series = scraped.get("series", **{"match[]": "{job='her2d'}"})
    assert "secret" not in json.dumps(series)
    assert len(series) < MOST_SERIES


def test_every_query_of_the_dashboard_returns_series(
    site, color_bundle, tmp_path, write_slide, request
):
    path = write_calibration(color_bundle, tmp_path / "signed.toml", from_percent=0)
    site.set("bundle", path=color_bundle.directory, calibration=path)
    site.set("results", backups=tmp_path / "backups")
    with site.config.open("a") as config:
        config.write('[webhook]\nurl = "http://127.0.0.1:9/"\n')
    scraped = request.getfixturevalue("scraped")
    write_slide(["Sw", "s."], "a.tif", folder=site.inbox)
    site.wait_for(JobState.DONE)
    # A rate needs two scrapes that differ, so add the second slide after the first was scraped.
    scraped.wait_for("her2d_day_results == 1")
    write_slide(["ww"], "b.tif", folder=site.inbox)
    site.wait_for(JobState.DONE, jobs=2)
    outcomes = tmp_path / "ihc.csv"
    outcomes.write_text("slide,ihc\na,3+\nb,0\n")
    site.command("outcomes", "import", str(outcomes))
    site.command("db", "backup")
    at = scraped.when(
        "her2d_day_results == 2 and on () sum(her2d_ihc_outcomes) == 2"
        " and on () her2d_last_backup_timestamp_seconds and on () sum(her2d_tiles_total) == 6"
    )
    assert scraped.query("her2d_ihc_predictive_value_ratio", at) == {"positive": 1, "negative": 1}
    assert scraped.query("her2d_day_send_to_ihc_ratio", at) == {"": 0.5}
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(queries) > 60
    silent = [
        query
        for query in queries
        if not scraped.query(query.replace("$job", "her2d").replace("$instance", ".*"), at)
    ]
    # There is no cluster, whose metrics tests/daemon and tests/cluster hold.
    assert [query for query in silent if "her2d_cluster_" not in query] == []
