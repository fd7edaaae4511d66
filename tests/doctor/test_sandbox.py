"""What the systemd units keep her2d from, by their properties as `systemctl show` prints them."""

from pathlib import Path

import pytest

from her2d.doctor.finding import Verdict
from her2d.doctor.sandbox import care_findings, sandbox_findings
from her2d.settings import (
    IntakeSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
    WebhookSettings,
)

UNIT = {
    "LoadState": "loaded",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "StateDirectory": "her2d",
    "ReadWritePaths": "",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
    "TimeoutStopUSec": "2min",
}
STATE = Path("/var/lib/her2d")


def installed(**sections: object) -> Settings:
    """As `make install` leaves it, with other sections."""
    settings = Settings(
        intake=IntakeSettings(inboxes=("/srv/her2d/inbox",)),
        results=ResultsSettings(
            database=STATE / "her2d.sqlite", heatmaps=STATE / "heatmaps", backups=STATE / "backups"
        ),
    )
    return settings.model_copy(update=sections)


def results(**paths: str) -> ResultsSettings:
    return installed().results.model_copy(update={name: Path(path) for name, path in paths.items()})


def said(findings) -> list[str]:
    return [finding.said for finding in findings if finding.verdict is not Verdict.OK]


def test_what_make_install_leaves_reaches_everything():
    assert said(sandbox_findings(installed(), UNIT)) == []
    assert said(care_findings(installed(), UNIT)) == []


@pytest.mark.parametrize(
    "changed",
    [{"ReadWritePaths": "/data"}, {"ReadWritePaths": "-/data/her2d"}, {"ProtectSystem": "full"}],
)
def test_results_elsewhere_must_be_allowed(changed):
    settings = installed(results=results(heatmaps="/data/her2d/heatmaps"))
    assert said(sandbox_findings(settings, UNIT)) == [
        "her2d.service may not write /data/her2d/heatmaps."
    ]
    assert said(sandbox_findings(settings, {**UNIT, **changed})) == []


def test_folders_that_files_are_moved_between_must_be_allowed():
    intake = IntakeSettings(
        inboxes=("/srv/her2d/inbox",),
        on_success="move",
        archive="/data/archive",
        quarantine="/data/quarantine",
    )
    settings = installed(intake=intake)
    assert said(sandbox_findings(settings, UNIT)) == [
        "her2d.service may not write /data/archive.",
        "her2d.service may not write /srv/her2d/inbox.",
    ]
    assert said(sandbox_findings(settings, {**UNIT, "ReadWritePaths": "/srv/her2d /data"})) == []


def test_the_nightly_unit_needs_its_own_permission():
    settings = installed(results=results(database="/data/her2d.sqlite", backups="/mnt/backups"))
    assert said(care_findings(settings, UNIT)) == [
        "her2d-care.service may not write /data.",
        "her2d-care.service may not write /mnt/backups.",
    ]
    assert said(care_findings(settings, {**UNIT, "ReadWritePaths": "/data /mnt/backups"})) == []


def test_homes_are_hidden():
    settings = installed(intake=IntakeSettings(inboxes=("/home/scanner/out",)))
    assert said(sandbox_findings(settings, UNIT)) == [
        "her2d.service does not see /home/scanner/out."
    ]
    assert said(sandbox_findings(settings, {**UNIT, "ProtectHome": "read-only"})) == []


def test_a_private_temporary_folder_hides_the_machines():
    settings = installed(
        intake=IntakeSettings(inboxes=("/var/tmp/scans",)),
        results=results(database="/tmp/her2d/her2d.sqlite"),
    )
    assert [line.partition(" own ")[2] for line in said(sandbox_findings(settings, UNIT))] == [
        "and does not see /var/tmp/scans.",
        "and does not see /tmp/her2d.",
    ]
    shared = {**UNIT, "PrivateTmp": "no", "ReadWritePaths": "/tmp/her2d"}
    assert said(sandbox_findings(settings, shared)) == []


def test_a_webhook_elsewhere_must_be_allowed():
    settings = installed(webhook=WebhookSettings(url="https://lis.example/hook"))
    assert said(sandbox_findings(settings, UNIT)) == [
        "her2d.service speaks to this machine only, and the webhook is at lis.example."
    ]
    here = installed(webhook=WebhookSettings(url="http://[::1]:8080/hook"))
    assert said(sandbox_findings(here, UNIT)) == []


@pytest.mark.parametrize(
    ("drain_s", "stop", "cut"),
    [
        (30, "2min", False),
        (120, "2min", True),
        (3700, "1h 2min 3s", False),
        (3800, "1h 2min 3s", True),
        (30, "500ms", True),
        (1e6, "infinity", False),
    ],
)
def test_a_stop_that_systemd_cuts_short_is_told(drain_s, stop, cut):
    settings = installed(pipeline=PipelineSettings(drain_s=drain_s))
    found = said(sandbox_findings(settings, {**UNIT, "TimeoutStopUSec": stop}))
    assert bool(found) is cut
    assert all("drain_s" in line for line in found)
