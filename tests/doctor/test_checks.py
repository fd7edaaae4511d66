"""What a new installation can get wrong, each told with its remedy."""

import errno
import getpass
import os
import shutil
import socket
import sqlite3
import threading
import tomllib
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import tomli_w
from onnx import TensorProto, helper, numpy_helper

from her2d.bundle.loading import sha256_of
from her2d.db.connection import open_database
from her2d.db.lock import held_by_us
from her2d.doctor.archive import archive_findings
from her2d.doctor.checks import check_up
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Verdict
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings
from her2d.doctor.network import port_finding
from her2d.doctor.sandbox import unit_findings
from her2d.doctor.user import user_finding
from her2d.monitoring.http import OpsServer
from her2d.monitoring.metrics import Metrics
from her2d.settings import (
    BundleSettings,
    InferenceSettings,
    IntakeSettings,
    OpsSettings,
    ResultsSettings,
    Settings,
)

NOBODY = "nobody"


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


def test_an_inbox_that_hangs_fails_and_does_not_hang_the_check(tmp_path, monkeypatch):
    server_is_back = threading.Event()
    monkeypatch.setattr("her2d.doctor.inboxes.ANSWER_S", 0.1)
    monkeypatch.setattr(
        "her2d.daemon.storage_probe._folder_status", lambda _: server_is_back.wait()
    )
    said = told(inbox_findings(tmp_path))
    server_is_back.set()
    assert said.startswith("failure: It has not answered")


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


def on_the_database(settings) -> tuple[Verdict, str]:
    """What is found of it, and what to do."""
    finding = next(f for f in storage_findings(settings.results) if f.check == "database")
    return finding.verdict, f"{finding.said} {finding.remedy}"


def test_a_folder_in_the_databases_place_fails(settings):
    settings.results.database.mkdir()
    verdict, said = on_the_database(settings)
    assert verdict is Verdict.FAILURE
    assert "is a folder" in said


def test_a_database_of_a_newer_her2d_fails(settings):
    open_database(settings.results.database).execute("pragma user_version = 999")
    verdict, said = on_the_database(settings)
    assert verdict is Verdict.FAILURE
    assert "written by a newer her2d" in said


def test_another_programs_database_fails(settings):
    with closing(sqlite3.connect(settings.results.database)) as connection:
        connection.execute("create table patients (name)")
    verdict, said = on_the_database(settings)
    assert verdict is Verdict.FAILURE
    assert "not her2d's" in said


def test_a_database_of_an_older_her2d_is_told(settings, second_migration):
    with second_migration.not_yet():
        open_database(settings.results.database).close()
    verdict, said = on_the_database(settings)
    assert verdict is Verdict.WARNING
    assert "has schema 1" in said
    assert "after a copy" in said


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


def test_an_ipv6_address_is_free_or_the_daemons():
    registry = Metrics().registry
    with OpsServer("::1", 0, registry, healthy=lambda: None, ready=lambda: None) as server:
        finding = port_finding(OpsSettings(host="::1", port=server.port))
    assert "A healthy daemon answers on [::1]:" in finding.said
    assert port_finding(OpsSettings(host="::1", port=0)).verdict is Verdict.OK


def test_an_inbox_without_events_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.doctor.inboxes._EVENT_S", 0.05)
    monkeypatch.setattr("her2d.doctor.inboxes.Watcher.take", lambda _: frozenset())
    assert told(inbox_findings(tmp_path)).startswith("warning: No event arrived")


def test_an_inbox_that_cannot_be_watched_is_a_warning(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no watch is left")

    monkeypatch.setattr("her2d.doctor.inboxes.Watcher.watch", refuse)
    assert told(inbox_findings(tmp_path)) == "warning: Events cannot be had: no watch is left."


def test_an_inbox_whose_clock_is_off_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.doctor.inboxes._CLOCK_S", -1.0)
    assert "this machine's" in told(inbox_findings(tmp_path))


def test_a_disk_that_is_nearly_full_is_a_warning_and_a_full_one_fails(tmp_path, monkeypatch):
    settings = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path)
    monkeypatch.setattr("her2d.doctor.database._LOW_BYTES", 1e18)
    assert [f.verdict for f in storage_findings(settings)].count(Verdict.WARNING) == 2
    monkeypatch.setattr("her2d.doctor.database._EMPTY_BYTES", 1e18)
    failures = [f for f in storage_findings(settings) if f.verdict is Verdict.FAILURE]
    assert ["are free" in failure.said for failure in failures] == [True, True]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script before the machine's own program of that name."""

    def program(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return program


def test_a_clock_that_follows_no_server_is_a_warning(program):
    program("timedatectl", "echo no")
    assert "follows no time server" in told([clock_finding()])


def test_a_clock_that_is_set_to_the_past_fails(monkeypatch):
    monkeypatch.setattr("her2d.doctor.machine._WRITTEN_IN", 9999)
    assert told([clock_finding()]).startswith("failure: It says")


def test_programs_that_do_not_answer_are_warnings(settings, program, monkeypatch):
    monkeypatch.setattr("her2d.doctor.programs._ANSWER_S", 0.1)
    for name in ("timedatectl", "systemctl"):
        program(name, "exec sleep 60")
    assert "timedatectl did not answer" in told([clock_finding()])
    assert "systemctl did not answer" in told(unit_findings(settings))


def test_both_installed_units_are_asked_for(settings, program):
    program("systemctl", 'echo LoadState=loaded; echo "User=nosuchuser-$2"')
    said = [finding.said for finding in unit_findings(settings)]
    assert said == [
        "her2d.service runs as nosuchuser-her2d.service, and there is no such user.",
        "her2d.service reaches everything the settings name.",
        "her2d-care.service reaches the database and its backups.",
    ]


def test_a_classifier_that_cannot_be_run_fails(settings, color_bundle, tmp_path):
    bundle = bundle_with_a_classifier_that_fails(color_bundle.directory, tmp_path / "broken")
    broken = settings.model_copy(update={"bundle": BundleSettings(path=bundle)})
    assert told(model_findings(broken)).startswith("failure: ")


def bundle_with_a_classifier_that_fails(sound: Path, folder: Path) -> Path:
    """Its graph loads, and asks for the impossible once there is a tile."""
    shutil.copytree(sound, folder)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["tiles"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["numbers", "shape"], ["p_strong"]),
        ],
        "classifiers",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 512, 512, 3])],
        [helper.make_tensor_value_info("p_strong", TensorProto.FLOAT, ["M", 5])],
        [numpy_helper.from_array(np.array([-1, 5], np.int64), "shape")],
    )
    path = folder / "classifiers.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    manifest["parts"]["classifiers"]["sha256"] = sha256_of(path)
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return folder


def test_nothing_is_said_of_moving_where_files_are_left(settings):
    assert list(archive_findings(settings.intake)) == []


def test_an_archive_that_leads_into_an_inbox_is_told(settings, tmp_path):
    (inbox,) = settings.intake.inboxes
    (inbox / "old").mkdir()
    (tmp_path / "link").symlink_to(inbox / "old")
    archive = {"on_success": "move", "archive": tmp_path / "link"}
    found = list(archive_findings(settings.intake.model_copy(update=archive)))
    assert found[1].verdict is Verdict.FAILURE
    assert f"leads into the inbox {inbox}" in found[1].said


def test_folders_that_finished_files_go_to_are_tried(settings, tmp_path):
    (tmp_path / "file").write_text("in the way")
    intake = settings.intake.model_copy(
        update={
            "on_success": "move",
            "on_failure": "move",
            "archive": tmp_path / "archive",
            "quarantine": tmp_path / "file" / "quarantine",
        }
    )
    found = list(archive_findings(intake))
    assert [(finding.check, finding.verdict) for finding in found] == [
        (f"inbox {tmp_path / 'inbox'}", Verdict.OK),
        ("[intake] archive", Verdict.OK),
        ("[intake] quarantine", Verdict.FAILURE),
    ]
