"""What the systemd units keep her2d from, given the properties that `systemctl show` prints."""

import re
from pathlib import Path

import pytest

from her2d.doctor import sandbox
from her2d.doctor.finding import Severity, ok
from her2d.doctor.limits import unit_limit_findings
from her2d.doctor.units import Units
from her2d.doctor.webhook import webhook_findings
from her2d.settings import (
    BundleSettings,
    ClusterSettings,
    InferenceSettings,
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
    "IPAddressDeny": "::/0 0.0.0.0/0",
    "TimeoutStopUSec": "2min",
}
STATE = Path("/var/lib/her2d")
UNITS = Path(__file__).parents[2] / "systemd"


def installed(**sections: object) -> Settings:
    """Return the settings that `make install` installs, with other sections."""
    settings = Settings(
        intake=IntakeSettings(inboxes=("/srv/her2d/inbox",)),
        results=ResultsSettings(
            database=STATE / "her2d.sqlite", heatmaps=STATE / "heatmaps", backups=STATE / "backups"
        ),
    )
    return settings.model_copy(update=sections)


def sandbox_findings(settings, daemon):
    return sandbox.sandbox_findings(settings, Units(daemon))


def care_findings(settings, care):
    """Return the findings on the nightly unit, beside a daemon's that may access everything."""
    free = {"LoadState": "loaded"}
    return list(sandbox.sandbox_findings(settings, Units(free, care)))[1:]


def limit_findings(settings, daemon):
    return unit_limit_findings(settings, Units(daemon))


def results(**paths: str) -> ResultsSettings:
    return installed().results.model_copy(update={name: Path(path) for name, path in paths.items()})


def problems(findings) -> list[str]:
    return [finding.message for finding in findings if finding.severity is not Severity.OK]


def test_the_units_can_access_everything_that_the_installed_settings_name():
    assert problems(sandbox_findings(installed(), UNIT)) == []
    assert problems(care_findings(installed(), UNIT)) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"ReadWritePaths": "/data"},
        {"ReadWritePaths": "-/data/her2d"},
        {"ProtectSystem": "full"},
        {"ReadOnlyPaths": "/data", "ReadWritePaths": "/data/her2d"},
    ],
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


def webhook_problems(url, monkeypatch, daemon):
    """Return the problems of the sandbox, without a request to the webhook."""
    monkeypatch.setattr("her2d.doctor.webhook._probe", lambda *_: ok("webhook", "It answers."))
    return problems(webhook_findings(WebhookSettings(url=url), daemon))


@pytest.fixture
def name_server(tmp_path, monkeypatch):
    def name_server(address: str) -> None:
        (tmp_path / "resolv.conf").write_text(f"nameserver {address}\n")
        monkeypatch.setattr("her2d.doctor.reach.RESOLV_CONF", tmp_path / "resolv.conf")

    return name_server


def test_a_webhook_on_another_machine_needs_permission(monkeypatch, name_server):
    name_server("127.0.0.53")
    elsewhere = "https://lis.invalid/hook"
    assert webhook_problems(elsewhere, monkeypatch, UNIT) == [
        "her2d.service cannot connect to other machines, but the webhook is at lis.invalid."
    ]
    assert webhook_problems("http://[::1]:8080/hook", monkeypatch, UNIT) == []
    assert webhook_problems("http://localhost:8080/hook", monkeypatch, UNIT) == []
    assert webhook_problems(elsewhere, monkeypatch, {"LoadState": "loaded"}) == []


def test_what_is_allowed_wins_over_what_is_denied(monkeypatch):
    assert webhook_problems("http://10.0.0.7/hook", monkeypatch, UNIT) == [
        "her2d.service cannot connect to the webhook at 10.0.0.7 (10.0.0.7)."
    ]
    allowed = {**UNIT, "IPAddressAllow": "127.0.0.0/8 10.0.0.0/8"}
    assert webhook_problems("http://10.0.0.7/hook", monkeypatch, allowed) == []


def test_a_name_needs_its_name_server_too(monkeypatch, name_server):
    name_server("10.0.0.53")
    assert webhook_problems("https://lis.invalid/hook", monkeypatch, UNIT) == [
        "her2d.service cannot connect to other machines, but the webhook is at lis.invalid and"
        " cannot ask the name server 10.0.0.53, which finds lis.invalid."
    ]
    allowed = {**UNIT, "IPAddressAllow": "127.0.0.0/8 10.0.0.0/8"}
    assert webhook_problems("https://lis.invalid/hook", monkeypatch, allowed) == []


def test_a_name_in_the_hosts_file_needs_no_name_server(monkeypatch, name_server, tmp_path):
    name_server("10.0.0.53")
    (tmp_path / "hosts").write_text("10.0.0.7 lis.invalid lis  # ours\n")
    monkeypatch.setattr("her2d.doctor.reach._HOSTS", tmp_path / "hosts")
    allowed = {**UNIT, "IPAddressAllow": "127.0.0.0/8 10.0.0.7/32"}
    assert webhook_problems("https://lis.invalid/hook", monkeypatch, allowed) == []


def test_the_drop_in_for_a_webhook_allows_private_networks(monkeypatch, name_server):
    name_server("192.168.1.1")
    drop_in = (UNITS / "webhook.conf").read_text()
    (allowed,) = re.findall(r"^IPAddressAllow=(.*)", drop_in, re.MULTILINE)
    unit = {**UNIT, "IPAddressAllow": f"127.0.0.0/8 {allowed}"}
    assert webhook_problems("http://172.16.3.4/hook", monkeypatch, unit) == []
    assert webhook_problems("https://lis.invalid/hook", monkeypatch, unit) == []
    assert webhook_problems("http://8.8.8.8/hook", monkeypatch, unit) != []


WITHOUT_CODE = {**UNIT, "MemoryDenyWriteExecute": "yes"}


def openvino_problems(backend: str, bundle: Path, daemon: dict[str, str]) -> list[str]:
    settings = installed(
        inference=InferenceSettings(backend=backend), bundle=BundleSettings(path=bundle)
    )
    found = sandbox_findings(settings, daemon)
    return [problem for problem in problems(found) if "OpenVINO" in problem]


def test_openvino_needs_a_unit_that_may_run_what_it_compiles(tmp_path):
    expected = [
        "her2d.service may not run code that it compiles, as OpenVINO does, so the daemon cannot"
        " use OpenVINO."
    ]
    assert openvino_problems("openvino", tmp_path, WITHOUT_CODE) == expected
    assert openvino_problems("auto", tmp_path, WITHOUT_CODE) == []
    (tmp_path / "openvino-bf16.plan.json").touch()
    assert openvino_problems("auto", tmp_path, WITHOUT_CODE) == expected
    assert openvino_problems("onnxruntime", tmp_path, WITHOUT_CODE) == []


def test_the_drop_in_for_openvino_allows_what_the_unit_forbids(tmp_path):
    setting = re.compile(r"^(MemoryDenyWriteExecute)=(.*)", re.MULTILINE)
    forbidden, allowed = (
        dict(setting.findall((UNITS / name).read_text()))
        for name in ("her2d.service", "openvino.conf")
    )
    assert openvino_problems("openvino", tmp_path, {**UNIT, **forbidden}) != []
    assert openvino_problems("openvino", tmp_path, {**UNIT, **forbidden, **allowed}) == []


def cluster_problems(address: str, daemon: dict[str, str]) -> list[str]:
    return problems(sandbox.cluster_sandbox_findings(ClusterSettings(address=address), daemon))


def test_the_head_of_a_cluster_on_another_machine_needs_permission(name_server):
    name_server("192.168.1.1")
    assert cluster_problems("ray://10.0.0.7:10001", UNIT) == [
        "her2d.service cannot connect to the cluster's head at 10.0.0.7 (10.0.0.7)."
    ]
    assert cluster_problems("ray://127.0.0.1:10001", UNIT) == []
    assert cluster_problems("ray://[::1]:10001", UNIT) == []
    assert cluster_problems("", UNIT) == []


def test_the_drop_in_for_a_cluster_allows_private_networks(name_server):
    name_server("192.168.1.1")
    drop_in = (UNITS / "cluster.conf").read_text()
    (allowed,) = re.findall(r"^IPAddressAllow=(.*)", drop_in, re.MULTILINE)
    unit = {**UNIT, "IPAddressAllow": f"127.0.0.0/8 {allowed}"}
    assert cluster_problems("ray://10.0.0.7:10001", unit) == []
    assert cluster_problems("ray://head.invalid:10001", unit) == []
    assert cluster_problems("ray://8.8.8.8:10001", unit) != []


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379"])
def test_a_daemon_with_a_private_temporary_folder_does_not_find_the_cluster_of_its_machine(address):
    assert "cannot see /tmp/ray" in cluster_problems(address, UNIT)[0]
    assert cluster_problems(address, {**UNIT, "PrivateTmp": "no"}) == []


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
    found = problems(limit_findings(settings, {**UNIT, "TimeoutStopUSec": stop}))
    assert bool(found) is cut
    assert all("drain_s" in line for line in found)


@pytest.mark.parametrize(
    ("tasks", "severity"), [("100", Severity.WARNING), ("20", Severity.FAILURE)]
)
def test_a_unit_with_fewer_tasks_than_the_cpus_need_is_named(monkeypatch, tasks, severity):
    monkeypatch.setattr("her2d.doctor.limits.usable_cpus", lambda: 64)
    (finding,) = limit_findings(installed(), {**UNIT, "TasksMax": tasks})
    assert finding.severity is severity
    assert f"her2d.service may have {tasks} threads (TasksMax)" in finding.message
    assert "[Service] TasksMax=" in finding.remedy


@pytest.mark.parametrize("tasks", ["2048", "infinity"])
def test_the_units_own_limit_of_tasks_is_enough_for_64_cpus(monkeypatch, tasks):
    monkeypatch.setattr("her2d.doctor.limits.usable_cpus", lambda: 64)
    assert problems(limit_findings(installed(), {**UNIT, "TasksMax": tasks})) == []
