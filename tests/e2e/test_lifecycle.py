"""Starting, stopping and reloading, and the messages that systemd gets."""

import os
import signal
import subprocess
import sys

import pytest
from service_manager import service_manager

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


def test_the_daemon_notifies_systemd_of_start_progress_reload_and_stop(site, tmp_path):
    with service_manager(tmp_path) as manager, site.daemon(NOTIFY_SOCKET=manager.address) as daemon:
        assert manager.wait_for("READY=1") == "READY=1\nSTATUS=Started."
        manager.wait_for("WATCHDOG=1")
        assert manager.wait_for("STATUS=").startswith("STATUS=0 slides in flight, 0 waiting")
        daemon.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        daemon.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")


def test_a_reload_applies_what_can_change_and_logs_what_needs_a_restart(site, write_slide):
    other = site.folder / "other"
    other.mkdir()
    write_slide(["S"], "a.tif", folder=other)
    with site.daemon() as daemon:
        site.set("intake", inboxes=[str(site.inbox), str(other)])
        site.set("pipeline", queue_tiles=8)
        daemon.send_signal(signal.SIGHUP)
        site.wait_for(JobState.DONE)
    (reloaded,) = [line for line in site.lines() if line["event"] == "settings_reloaded"]
    (waiting,) = [line for line in site.lines() if line["event"] == "settings_wait_for_restart"]
    assert reloaded["changed"] == ["intake.inboxes"]
    assert waiting["keys"] == ["pipeline.queue_tiles"]


def test_a_reload_of_invalid_settings_is_refused_and_the_old_ones_stay(site, write_slide):
    with site.daemon() as daemon:
        site.set("intake", settle_s=-1)
        daemon.send_signal(signal.SIGHUP)
        site.wait_until(lambda: site.events()["settings_refused"] == 1)
        write_slide(["S"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
    (refused,) = [line for line in site.lines() if line["event"] == "settings_refused"]
    assert "intake.settle_s" in refused["reason"]


@pytest.mark.parametrize(
    "inboxes", ['["~nobody-has-this-name/x"]', "[" * 5000], ids=["unknown user", "nested"]
)
def test_systemd_is_answered_whatever_a_reload_meets(site, write_slide, tmp_path, inboxes):
    kept = site.config.read_text()
    with service_manager(tmp_path) as manager, site.daemon(NOTIFY_SOCKET=manager.address) as daemon:
        manager.wait_for("READY=1")
        site.config.write_text(kept.replace("[intake]\n", f"[intake]\ninboxes = {inboxes}\n"))
        daemon.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        site.config.write_text(kept)


def test_a_reload_of_a_file_that_was_emptied_is_refused_and_the_inbox_stays(site, write_slide):
    kept = site.config.read_text()
    with site.daemon() as process:
        site.config.write_text("")
        process.send_signal(signal.SIGHUP)
        site.wait_until(lambda: site.events()["settings_refused"] == 1)
        write_slide(["Sw"], "a.tif", folder=site.inbox)
        site.wait_for(JobState.DONE)
        site.config.write_text(kept)


def reload(site, *options: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "her2d", "config", "reload", *options]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.returncode, found.stdout, found.stderr


def test_the_command_that_reloads_says_what_applies_and_what_waits(site):
    config = ("--config", str(site.config))
    with site.daemon() as daemon:
        site.set("intake", settle_s=0.5)
        code, out, _ = reload(site, *config)
        assert (code, out) == (0, f"The daemon read the settings from {site.config}.\n")
        site.set("pipeline", queue_tiles=8)
        _, out, _ = reload(site, "--pid", str(daemon.pid), *config)
        assert out.endswith("These apply when it is restarted: pipeline.queue_tiles.\n")
        site.wait_until(lambda: site.events()["settings_reloaded"] == 2)
    code, _, err = reload(site, *config)
    assert (code, err) == (1, f"her2d: No daemon works on {site.database}.\n")


def test_the_command_fails_if_its_own_check_refuses_the_settings_and_asks_no_daemon(site):
    with site.daemon() as daemon:
        site.set("intake", settle_s=-1)
        code, _, err = reload(site, "--pid", str(daemon.pid), "--config", str(site.config))
        assert (code, err.count("\n")) == (1, 1)
        assert "intake.settle_s" in err
        assert site.events()["settings_refused"] == site.events()["settings_reloaded"] == 0


def test_the_command_fails_if_only_the_daemon_refuses_the_settings(site):
    good = site.folder / "good.toml"
    good.write_text(site.config.read_text())
    with site.daemon() as daemon:
        site.set("intake", settle_s=-1)
        code, _, err = reload(site, "--pid", str(daemon.pid), "--config", str(good))
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith("her2d: The daemon keeps the settings it has. ")
        assert "intake.settle_s" in err
        site.wait_until(lambda: site.events()["settings_refused"] == 1)


def test_a_stop_waits_until_started_slides_are_finished(site, write_slide):
    write_slide(["Sw" * 4] * 8, "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.RUNNING, JobState.DONE)
    assert [job.state for job in site.jobs()] == [JobState.DONE]


def test_a_stop_returns_slides_that_do_not_finish_in_time_to_the_queue(site, write_slide):
    # Its only batch waits for more tiles.
    site.set("pipeline", drain_s=0, batch_wait_s=3600, segmenter_batch=4, classifier_batch=4)
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.RUNNING)
    (job,) = site.jobs()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    site.set("pipeline", batch_wait_s=0.2)
    with site.daemon():
        site.wait_for(JobState.DONE)
    assert site.runs() == 1


def test_the_old_result_is_kept_when_a_slide_is_reprocessed_with_a_new_bundle(
    site, write_slide, color_bundle
):
    write_slide(["Sw"], "a.tif", folder=site.inbox)
    with site.daemon():
        site.wait_for(JobState.DONE)
    newer = site.folder / "newer"
    newer.mkdir()
    for file in color_bundle.directory.iterdir():
        os.link(file, newer / file.name)
    manifest = (newer / "manifest.toml").read_text().replace('version = "1"', 'version = "2"')
    (newer / "manifest.toml").unlink()
    (newer / "manifest.toml").write_text(manifest)
    site.set("bundle", path=newer)
    assert site.command("queue", "reprocess") == "Queued 1 slide.\n"
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=2)
    assert site.results()["a.tif"].bundle_version == "2"
    assert site.runs() == 2
    assert site.command("queue", "reprocess") == "Queued 0 slides.\n"
