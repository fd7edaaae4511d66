"""What a new installation can get wrong, each told with its remedy."""

import getpass
import socket

import pytest

from her2d.checkup import Verdict, check_up
from her2d.checkup.inboxes import inbox_findings
from her2d.checkup.models import model_findings
from her2d.checkup.network import port_finding
from her2d.checkup.sandbox import sandbox_findings
from her2d.checkup.storage import storage_findings
from her2d.checkup.user import user_finding
from her2d.database import open_database
from her2d.ops import Metrics, OpsServer, held_by_us
from her2d.settings import (
    BundleSettings,
    InferenceSettings,
    IntakeSettings,
    OpsSettings,
    ResultsSettings,
    Settings,
    WebhookSettings,
)

NOBODY = "nobody"
UNIT = {
    "LoadState": "loaded",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "StateDirectory": "her2d",
    "ReadWritePaths": "",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
}


@pytest.fixture
def settings(tmp_path, color_bundle) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(inboxes=(tmp_path / "inbox",)),
        bundle=BundleSettings(path=color_bundle.directory),
        inference=InferenceSettings(threads=1),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heat"),
        ops=OpsSettings(port=0),
    )


def told(findings) -> str:
    """The one thing that is not well, with its remedy."""
    (bad,) = [finding for finding in findings if finding.verdict is not Verdict.OK]
    assert bad.remedy
    return f"{bad.verdict.value}: {bad.said}"


def test_a_sound_installation_has_nothing_that_fails(settings):
    found = list(check_up(settings))
    assert [finding for finding in found if finding.verdict is Verdict.FAILURE] == []
    assert {"database", "bundle", "back end", "port", "clock", "systemd sandbox"} <= {
        finding.check for finding in found
    }


def test_nothing_is_left_behind(settings, tmp_path):
    list(check_up(settings))
    assert list((tmp_path / "inbox").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["inbox"]


def test_a_database_that_is_there_gets_no_lock_by_being_looked_at(settings, tmp_path):
    open_database(settings.results.database).close()
    list(check_up(settings))
    assert not (tmp_path / "her2d.sqlite.lock").exists()


@pytest.mark.parametrize(
    ("unit", "verdict", "said"),
    [
        (NOBODY, Verdict.WARNING, "means nothing"),
        ("nosuchuser", Verdict.FAILURE, "no such user"),
        (getpass.getuser(), Verdict.OK, "as her2d.service does"),
    ],
)
def test_checks_that_are_not_made_as_the_units_user_say_so(unit, verdict, said):
    finding = user_finding("her2d.service", {"User": unit})
    assert finding.verdict is verdict
    assert said in finding.said


def test_events_that_arrive_are_told(tmp_path):
    assert "Events arrive." in [finding.said for finding in inbox_findings(tmp_path)]


def test_an_inbox_that_is_not_there_fails(tmp_path):
    assert told(inbox_findings(tmp_path / "absent")) == "failure: There is no such folder."


def test_a_results_folder_that_cannot_be_made_fails(tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "file" / "h")
    found = [finding for finding in storage_findings(settings) if finding.verdict != Verdict.OK]
    assert "cannot be written" in found[0].said


def test_a_file_that_is_no_database_fails(tmp_path):
    (tmp_path / "her2d.sqlite").write_text("no database at all. " * 30)
    settings = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path)
    failures = [f for f in storage_findings(settings) if f.verdict is Verdict.FAILURE]
    assert [failure.check for failure in failures] == ["database"]


def test_a_running_daemon_is_named_and_no_failure(settings):
    open_database(settings.results.database).close()
    with held_by_us(settings.results.database):
        found = list(storage_findings(settings.results))
    assert "already works on" in found[-1].said
    assert found[-1].verdict is Verdict.OK


def test_an_altered_bundle_fails(settings, tmp_path):
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in settings.bundle.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "segmenter.onnx").open("ab") as file:
        file.write(b"!")
    altered = settings.model_copy(update={"bundle": BundleSettings(path=copy)})
    assert "is not the file its manifest names" in told(model_findings(altered))


def test_a_port_somebody_else_has_fails():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = port_finding(OpsSettings(port=port))
    assert finding.verdict is Verdict.FAILURE


def test_a_port_the_daemon_has_is_well():
    registry = Metrics().registry
    with OpsServer("127.0.0.1", 0, registry, healthy=lambda: None, ready=lambda: None) as server:
        finding = port_finding(OpsSettings(port=server.port))
    assert finding.verdict is Verdict.OK
    assert "healthy daemon" in finding.said


def test_a_port_open_to_the_world_is_a_warning():
    assert port_finding(OpsSettings(host="0.0.0.0", port=0)).verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "The unit may not write"),
        ({"ReadWritePaths": "{tmp}"}, None),
        ({"ReadWritePaths": "-{tmp}"}, None),
        ({"ProtectSystem": "full"}, None),
    ],
)
def test_a_sandbox_that_keeps_results_out_is_told(settings, tmp_path, changed, said):
    unit = {**UNIT, **{key: value.format(tmp=tmp_path) for key, value in changed.items()}}
    found = list(sandbox_findings(settings, unit))
    if said is None:
        assert [finding.verdict for finding in found] == [Verdict.OK]
    else:
        assert all(finding.said.startswith(said) for finding in found)


def test_a_sandbox_that_hides_an_inbox_or_the_webhook_is_told(settings, tmp_path):
    hidden = settings.model_copy(
        update={
            "intake": IntakeSettings(inboxes=("/home/scanner/out",)),
            "webhook": WebhookSettings(url="https://lis.example/hook"),
        }
    )
    said = [
        finding.said
        for finding in sandbox_findings(hidden, {**UNIT, "ReadWritePaths": str(tmp_path)})
    ]
    assert said == [
        "The unit does not see /home/scanner/out.",
        "The unit speaks to this machine only, and the webhook is at lis.example.",
    ]
