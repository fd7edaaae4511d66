"""What the systemd units keep her2d from, given the properties that `systemctl show` prints."""

from pathlib import Path

import pytest

from her2d.doctor.finding import Verdict
from her2d.doctor.sandbox import care_findings, sandbox_findings
from her2d.settings import (
    BundleSettings,
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
    """Return the settings that `make install` installs, with other sections."""
    settings = Settings(
        intake=IntakeSettings(inboxes=("/srv/her2d/inbox",)),
        results=ResultsSettings(
            database=STATE / "her2d.sqlite", heatmaps=STATE / "heatmaps", backups=STATE / "backups"
        ),
    )
    return settings.model_copy(update=sections)


def results(**paths: str) -> ResultsSettings:
    return installed().results.model_copy(update={name: Path(path) for name, path in paths.items()})


def problems(findings) -> list[str]:
    return [finding.message for finding in findings if finding.verdict is not Verdict.OK]


def test_the_units_can_access_everything_that_the_installed_settings_name():
    assert problems(sandbox_findings(installed(), UNIT)) == []
    assert problems(care_findings(installed(), UNIT)) == []


@pytest.mark.parametrize(
    "changed",
    [{"ReadWritePaths": "/data"}, {"ReadWritePaths": "-/data/her2d"}, {"ProtectSystem": "full"}],
)
def test_a_results_folder_outside_the_state_folder_needs_permission(changed):
    settings = installed(results=results(heatmaps="/data/her2d/heatmaps"))
    assert problems(sandbox_findings(settings, UNIT)) == [
        "her2d.service cannot write to /data/her2d/heatmaps."
    ]
    assert problems(sandbox_findings(settings, {**UNIT, **changed})) == []


def test_folders_that_files_are_moved_from_and_to_need_permission():
    intake = IntakeSettings(
        inboxes=("/srv/her2d/inbox",),
        on_success="move",
        archive="/data/archive",
        quarantine="/data/quarantine",
    )
    settings = installed(intake=intake)
    assert problems(sandbox_findings(settings, UNIT)) == [
        "her2d.service cannot write to /data/archive.",
        "her2d.service cannot write to /srv/her2d/inbox.",
    ]
    assert (
        problems(sandbox_findings(settings, {**UNIT, "ReadWritePaths": "/srv/her2d /data"})) == []
    )


def test_the_nightly_unit_needs_separate_permission():
    settings = installed(results=results(database="/data/her2d.sqlite", backups="/mnt/backups"))
    assert problems(care_findings(settings, UNIT)) == [
        "her2d-care.service cannot write to /data.",
        "her2d-care.service cannot write to /mnt/backups.",
    ]
    assert problems(care_findings(settings, {**UNIT, "ReadWritePaths": "/data /mnt/backups"})) == []


def test_home_folders_are_hidden():
    settings = installed(intake=IntakeSettings(inboxes=("/home/scanner/out",)))
    assert problems(sandbox_findings(settings, UNIT)) == [
        "her2d.service cannot see /home/scanner/out."
    ]
    assert problems(sandbox_findings(settings, {**UNIT, "ProtectHome": "read-only"})) == []


def test_a_calibration_that_is_not_beside_the_bundle_must_be_visible_too():
    settings = installed(bundle=BundleSettings(path="/opt/ours", calibration="/home/li/ours.toml"))
    assert problems(sandbox_findings(settings, UNIT)) == [
        "her2d.service cannot see /home/li/ours.toml."
    ]


def test_a_private_temporary_folder_hides_the_shared_one():
    settings = installed(
        intake=IntakeSettings(inboxes=("/var/tmp/scans",)),
        results=results(database="/tmp/her2d/her2d.sqlite"),
    )
    assert [
        line.partition(" folder ")[2] for line in problems(sandbox_findings(settings, UNIT))
    ] == [
        "and cannot see /var/tmp/scans.",
        "and cannot see /tmp/her2d.",
    ]
    shared = {**UNIT, "PrivateTmp": "no", "ReadWritePaths": "/tmp/her2d"}
    assert problems(sandbox_findings(settings, shared)) == []


def test_a_webhook_on_another_machine_needs_permission():
    settings = installed(webhook=WebhookSettings(url="https://lis.example/hook"))
    assert problems(sandbox_findings(settings, UNIT)) == [
        "her2d.service can only connect to this machine, but the webhook is at lis.example."
    ]
    here = installed(webhook=WebhookSettings(url="http://[::1]:8080/hook"))
    assert problems(sandbox_findings(here, UNIT)) == []


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
def test_a_stop_timeout_shorter_than_drain_s_is_reported(drain_s, stop, cut):
    settings = installed(pipeline=PipelineSettings(drain_s=drain_s))
    found = problems(sandbox_findings(settings, {**UNIT, "TimeoutStopUSec": stop}))
    assert bool(found) is cut
    assert all("drain_s" in line for line in found)


@pytest.mark.parametrize(("tasks", "verdict"), [("100", Verdict.WARNING), ("20", Verdict.FAILURE)])
def test_a_unit_with_fewer_tasks_than_the_cpus_need_is_named(monkeypatch, tasks, verdict):
    monkeypatch.setattr("her2d.doctor.sandbox.usable_cpus", lambda: 64)
    (finding,) = sandbox_findings(installed(), {**UNIT, "TasksMax": tasks})
    assert finding.verdict is verdict
    assert f"her2d.service may have {tasks} threads (TasksMax)" in finding.message
    assert "[Service] TasksMax=" in finding.remedy


@pytest.mark.parametrize("tasks", ["2048", "infinity"])
def test_the_units_own_limit_of_tasks_is_enough_for_64_cpus(monkeypatch, tasks):
    monkeypatch.setattr("her2d.doctor.sandbox.usable_cpus", lambda: 64)
    assert problems(sandbox_findings(installed(), {**UNIT, "TasksMax": tasks})) == []
