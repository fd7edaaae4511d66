"""The service of a real installation: Debian with systemd as PID 1, in a container."""

import re
from pathlib import Path

import pytest
from debian_machine import Machine, booted, needs_container

pytestmark = [pytest.mark.slow, needs_container]

SCANNER = ("her2d", "simulate", "scanner", "/srv/her2d/inbox", "--slides", "1", "--pace", "50")
SCAN = "/srv/her2d/inbox/a.tif"
CONFIG = "/etc/her2d/config.toml"


def start(machine: Machine) -> None:
    """Start the service with a short wait for finished scans, and enable it."""
    machine.run("sed", "-i", "-E", "s/^(# )?settle_s = .*/settle_s = 1/", CONFIG)
    machine.run("systemctl", "enable", "--now", "her2d")


def statuses(machine: Machine) -> list[str]:
    """The HER2 status of each slide."""
    listed = machine.run("her2d", "results", "--csv", user="her2d")
    header, *rows = (line.split(",") for line in listed.splitlines())
    return [row[header.index("her2_status")] for row in rows]


def score(machine: Machine, scan: Path) -> None:
    """Put a scan into the inbox, and wait for its result."""
    machine.put(scan, SCAN)
    machine.wait_for_event("slide_finished")
    assert len(statuses(machine)) == 1


def test_a_slide_is_scored_by_the_service_that_make_install_installed(installed, boot):
    machine = boot(installed)
    assert "fail" not in machine.run("her2d", "doctor", user="her2d").split()
    start(machine)
    assert machine.show("her2d", "ActiveState") == "active"
    machine.run(*SCANNER, "--width", "2048", "--height", "2048", user="her2d")
    machine.wait_for_event("slide_finished")
    assert len(statuses(machine)) == 1
    assert statuses(machine)[0] in ("positive", "negative")
    assert re.match(r"her2d \d", machine.run("/usr/local/bin/her2d", "--version"))


def test_systemd_restarts_a_daemon_that_stands_still(installed, boot, scan):
    machine = boot(installed)
    machine.shell(
        "mkdir -p /etc/systemd/system/her2d.service.d\n"
        "printf '[Service]\\nWatchdogSec=8\\nRestartSec=1\\n'"
        " > /etc/systemd/system/her2d.service.d/soon.conf\n"
        "systemctl daemon-reload"
    )
    start(machine)
    first = machine.show("her2d", "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "her2d")
    machine.wait_until(
        lambda: (
            machine.show("her2d", "MainPID") not in ("0", first)
            and machine.show("her2d", "ActiveState") == "active"
        )
    )
    assert machine.show("her2d", "NRestarts") == "1"
    assert "watchdog" in machine.run("journalctl", "-u", "her2d").lower()
    score(machine, scan)


def test_a_reload_applies_settings_and_survives_those_that_are_refused(installed, boot, scan):
    machine = boot(installed)
    start(machine)
    daemon = machine.show("her2d", "MainPID")
    machine.shell("install -d -o her2d -g her2d /srv/her2d/second")
    machine.shell(f"""sed -i -E 's|^inboxes = .*|inboxes = ["/srv/her2d/second"]|' {CONFIG}""")
    machine.run("systemctl", "reload", "her2d")
    machine.wait_until(lambda: "/srv/her2d/second" in machine.journal())
    machine.shell(f"echo 'no settings' >> {CONFIG}")
    refused = machine.try_run("systemctl", "reload", "her2d")
    assert refused.returncode != 0
    assert f"her2d: The settings cannot be read from {CONFIG}: " in machine.journal()
    assert machine.show("her2d", "MainPID") == daemon
    machine.put(scan, SCAN.replace("inbox", "second"))
    machine.wait_for_event("slide_finished")
    machine.run("sed", "-i", "$ d", CONFIG)  # commands read the file, too
    assert len(statuses(machine)) == 1


def test_a_stop_is_clean_and_the_next_boot_starts_the_daemon_with_its_results(
    installed, tmp_path, scan
):
    with booted(installed, tmp_path / "machine") as machine:
        start(machine)
        score(machine, scan)
        before = statuses(machine)
        machine.run("systemctl", "stop", "her2d")
        assert machine.show("her2d", "Result") == "success"
        assert machine.show("her2d", "ExecMainStatus") == "0"
        assert "daemon_stopped" in machine.journal()
    with booted(installed, tmp_path / "machine") as machine:
        machine.wait_until(lambda: machine.show("her2d", "ActiveState") == "active")
        assert statuses(machine) == before


def test_an_update_needs_a_stop_and_keeps_settings_and_results(installed, clone, boot, scan):
    machine = boot(installed, clone)
    start(machine)
    score(machine, scan)
    before = statuses(machine), machine.run("cat", CONFIG)
    update = ("make", "-s", "-C", clone, "install", "WHEELS=dist/wheels")
    refused = machine.try_run(*update)
    assert refused.returncode != 0
    assert "systemctl stop her2d" in refused.stderr
    assert machine.show("her2d", "ActiveState") == "active"
    machine.run("systemctl", "stop", "her2d")
    machine.run(*update)
    machine.run("systemctl", "start", "her2d")
    assert (statuses(machine), machine.run("cat", CONFIG)) == before
