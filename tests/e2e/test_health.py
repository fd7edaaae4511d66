"""/healthz and /readyz of a real daemon."""

import contextlib
import signal
import sqlite3

import pytest
from daemon_site import http_get

from her2d.daemon import readiness
from her2d.daemon.service import Daemon
from her2d.monitoring.http import OpsServer
from her2d.monitoring.metrics import Metrics
from her2d.queue.job import JobState
from her2d.settings import Settings

pytestmark = pytest.mark.slow


def test_a_daemon_without_its_inbox_is_healthy_and_not_ready(site):
    with site.daemon():
        site.inbox.rmdir()
        assert site.wait_for_503("/readyz") == f"The inbox {site.inbox} cannot be read.\n"
        assert site.answer("/healthz") == (200, "ok\n")


def test_a_daemon_whose_database_is_locked_is_not_ready(site, write_slide):
    with site.daemon(), contextlib.closing(sqlite3.connect(site.database)) as other:
        other.execute("begin immediate")
        write_slide(["S"], "a.tif", folder=site.inbox)
        reason = site.wait_for_503("/readyz")
        other.rollback()
        site.wait_for(JobState.DONE)
        site.wait_until(lambda: site.answer("/readyz") == (200, "ok\n"))
    assert reason == "The database is unavailable: database is locked.\n"


def test_a_daemon_whose_slide_makes_no_progress_is_not_healthy(site, write_slide):
    site.set("intake", stalled_after_s=0.001)
    site.set(
        "pipeline", batch_wait_s=3600, drain_s=0
    )  # so that its only batch waits for more tiles
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon():
        assert site.wait_for_503("/healthz").startswith("A slide has made no progress for ")


def test_a_daemon_that_stops_is_not_ready(site, write_slide):
    site.set(
        "pipeline", batch_wait_s=3600, drain_s=3600
    )  # so that its only batch waits for more tiles
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon() as process:
        site.wait_for(JobState.RUNNING)
        process.send_signal(signal.SIGTERM)
        site.wait_until(lambda: site.events()["daemon_stopping"] == 1)
        response = site.answer("/readyz")
    assert response == (503, "The daemon is stopping and does not accept new scans.\n")


def test_a_daemon_that_does_not_check_its_inboxes_is_not_healthy(monkeypatch):
    idle = Daemon(Settings())
    monkeypatch.setattr(readiness, "_UNHEALTHY_AFTER_S", 0.0)
    probes = {"healthy": idle._why_unhealthy, "ready": lambda: None}
    with OpsServer("127.0.0.1", 0, Metrics().registry, **probes) as server:
        status, reason = http_get(server.port, "/healthz")
    assert status == 503
    assert reason.startswith("The inboxes were last checked ")
