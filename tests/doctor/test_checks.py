"""The checks of `her2d doctor`, each of which reports a problem with its remedy."""

import errno
import getpass
import itertools
import os
import shutil
import socket
import sqlite3
import threading
import tomllib
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
import tomli_w
from hostile_receiver import OK, endless, hostile_receiver
from onnx import TensorProto, helper, numpy_helper

from her2d.bundle.loading import sha256_of
from her2d.db.connection import open_database
from her2d.db.lock import hold_daemon_lock
from her2d.doctor.archive import archive_findings
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Severity
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings, verified_bundle
from her2d.doctor.network import port_finding
from her2d.doctor.programs import NoAnswerError
from her2d.doctor.units import query_units, user_finding
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


def problem(findings) -> str:
    """Return the only finding that is a problem, after checking that it has a remedy."""
    (found,) = [finding for finding in findings if finding.severity is not Severity.OK]
    assert found.remedy
    return f"{found.severity.value}: {found.message}"


def test_checking_a_database_creates_no_lock_file(settings, tmp_path):
    open_database(settings.results.database).close()
    list(storage_findings(settings))
    assert not (tmp_path / "her2d.sqlite.lock").exists()


@pytest.mark.parametrize(
    ("unit", "severity", "message"),
    [
        (NOBODY, Severity.WARNING, "does not apply to the unit"),
        ("nosuchuser", Severity.FAILURE, "which does not exist"),
        (getpass.getuser(), Severity.OK, "as which her2d.service runs"),
    ],
)
def test_running_the_checks_as_another_user_than_the_unit_is_a_problem(unit, severity, message):
    finding = user_finding("her2d.service", {"User": unit})
    assert finding.severity is severity
    assert message in finding.message


def test_events_that_arrive_are_reported(tmp_path):
    assert "Events arrive." in [finding.message for finding in inbox_findings(tmp_path)]


def test_a_missing_inbox_is_a_failure(tmp_path):
    assert problem(inbox_findings(tmp_path / "absent")) == "failure: This folder does not exist."


def test_an_inbox_that_hangs_is_a_failure_and_does_not_block_the_check(tmp_path, monkeypatch):
    server_is_back = threading.Event()
    monkeypatch.setattr("her2d.doctor.inboxes.ANSWER_S", 0.1)
    monkeypatch.setattr(
        "her2d.daemon.storage_probe._folder_status", lambda _: server_is_back.wait()
    )
    found = problem(inbox_findings(tmp_path))
    server_is_back.set()
    assert found.startswith("failure: This share has not answered")


def test_a_results_folder_that_cannot_be_created_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("in the way")
    results = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "file" / "h")
    settings = Settings(results=results)
    # Not the first finding: a disk that is nearly full is warned of before it.
    failures = [f for f in storage_findings(settings) if f.severity is Severity.FAILURE]
    assert ["cannot write to" in failure.message for failure in failures] == [True]


def test_a_file_that_is_not_a_database_is_a_failure(tmp_path):
    (tmp_path / "her2d.sqlite").write_text("not a database. " * 30)
    results = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path)
    settings = Settings(results=results)
    failures = [f for f in storage_findings(settings) if f.severity is Severity.FAILURE]
    assert [failure.check for failure in failures] == ["database"]


def database_finding(settings) -> tuple[Severity, str]:
    """Return the severity of the finding on the database, and its message and remedy."""
    finding = next(f for f in storage_findings(settings) if f.check == "database")
    return finding.severity, f"{finding.message} {finding.remedy}"


def test_a_folder_at_the_path_of_the_database_is_a_failure(settings):
    settings.results.database.mkdir()
    severity, text = database_finding(settings)
    assert severity is Severity.FAILURE
    assert "is a folder" in text


def test_the_database_of_a_newer_her2d_is_a_failure(settings):
    open_database(settings.results.database).execute("pragma user_version = 999")
    severity, text = database_finding(settings)
    assert severity is Severity.FAILURE
    assert "written by a newer version of her2d" in text


def test_the_database_of_another_program_is_a_failure(settings):
    with closing(sqlite3.connect(settings.results.database)) as connection:
        connection.execute("create table patients (name)")
    severity, text = database_finding(settings)
    assert severity is Severity.FAILURE
    assert "is the database of another program" in text


def test_the_database_of_an_older_her2d_is_a_warning(settings, second_migration):
    with second_migration.not_yet():
        open_database(settings.results.database).close()
    severity, text = database_finding(settings)
    assert severity is Severity.WARNING
    assert "has schema 1" in text
    assert "copies the database and updates it" in text


def test_a_running_daemon_is_reported_and_is_not_a_failure(settings):
    open_database(settings.results.database).close()
    with hold_daemon_lock(settings.results.database):
        found = list(storage_findings(settings))
    assert "already works on" in found[-1].message
    assert found[-1].severity is Severity.OK


def test_an_altered_bundle_is_a_failure(settings, tmp_path):
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in settings.bundle.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "segmenter.onnx").open("ab") as file:
        file.write(b"!")
    altered = settings.model_copy(update={"bundle": BundleSettings(path=copy)})
    assert "differs from the manifest" in problem(model_findings(altered, verified_bundle(altered)))


def test_a_program_on_the_port_whose_answer_never_ends_does_not_hold_up_doctor():
    answer = partial(itertools.chain, [OK + b"\r\n"])
    with hostile_receiver(lambda: answer(endless(b"x" * 65536))) as other:
        finding = port_finding(OpsSettings(port=urlsplit(other.url).port))
    assert finding.severity is Severity.FAILURE
    assert "returns 200: xxx" in finding.message
    assert len(finding.message) < 300


def test_a_port_that_another_program_uses_is_a_failure():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = port_finding(OpsSettings(port=port))
    assert finding.severity is Severity.FAILURE


def test_a_port_that_the_daemon_uses_is_ok():
    registry = Metrics().registry
    with OpsServer("127.0.0.1", 0, registry, healthy=lambda: None, ready=lambda: None) as server:
        finding = port_finding(OpsSettings(port=server.port))
    assert finding.severity is Severity.OK
    assert "healthy daemon" in finding.message


def test_a_port_that_other_machines_can_reach_is_a_warning():
    assert port_finding(OpsSettings(host="0.0.0.0", port=0)).severity is Severity.WARNING


def test_an_ipv6_address_is_ok_if_it_is_free_or_the_daemon_uses_it():
    registry = Metrics().registry
    with OpsServer("::1", 0, registry, healthy=lambda: None, ready=lambda: None) as server:
        finding = port_finding(OpsSettings(host="::1", port=server.port))
    assert "A healthy daemon answers on [::1]:" in finding.message
    assert port_finding(OpsSettings(host="::1", port=0)).severity is Severity.OK


def test_an_inbox_without_events_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.doctor.inboxes._EVENT_S", 0.05)
    monkeypatch.setattr("her2d.doctor.inboxes.Watcher.take", lambda _: frozenset())
    assert problem(inbox_findings(tmp_path)).startswith("warning: No event arrived")


def test_an_inbox_that_cannot_be_watched_is_a_warning(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no watch is left")

    monkeypatch.setattr("her2d.doctor.inboxes.Watcher.watch", refuse)
    assert (
        problem(inbox_findings(tmp_path)) == "warning: Events are not available: no watch is left."
    )


def test_an_inbox_whose_clock_differs_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.doctor.inboxes._CLOCK_S", -1.0)
    assert "this machine's" in problem(inbox_findings(tmp_path))


def test_a_disk_that_is_nearly_full_is_a_warning_and_a_full_one_is_a_failure(tmp_path, monkeypatch):
    results = ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path)
    settings = Settings(results=results)
    monkeypatch.setattr("her2d.doctor.database._LOW_BYTES", 1e18)
    assert [f.severity for f in storage_findings(settings)].count(Severity.WARNING) == 2
    monkeypatch.setattr("her2d.doctor.database._EMPTY_BYTES", 1e18)
    failures = [f for f in storage_findings(settings) if f.severity is Severity.FAILURE]
    assert ["are free" in failure.message for failure in failures] == [True, True]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script in front of the machine's program of the same name in PATH."""

    def program(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return program


def test_a_clock_that_is_not_synchronised_is_a_warning(program):
    program("timedatectl", "echo no")
    assert "is not synchronised with a time server" in problem([clock_finding()])


def test_a_date_before_the_release_is_a_failure(monkeypatch):
    monkeypatch.setattr("her2d.doctor.machine._RELEASE_YEAR", 9999)
    assert problem([clock_finding()]).startswith("failure: The date is")


def test_programs_that_do_not_answer_are_not_waited_for(program, monkeypatch):
    monkeypatch.setattr("her2d.doctor.programs._TIMEOUT_S", 0.1)
    for name in ("timedatectl", "systemctl"):
        program(name, "exec sleep 60")
    assert "timedatectl did not answer" in problem([clock_finding()])
    with pytest.raises(NoAnswerError, match="systemctl did not answer"):
        query_units()


def test_a_classifier_that_cannot_be_run_is_a_failure(settings, color_bundle, tmp_path):
    bundle = bundle_with_a_classifier_that_fails(color_bundle.directory, tmp_path / "broken")
    broken = settings.model_copy(update={"bundle": BundleSettings(path=bundle)})
    assert problem(model_findings(broken, verified_bundle(broken))).startswith("failure: ")


def bundle_with_a_classifier_that_fails(valid: Path, folder: Path) -> Path:
    """Copy a bundle with a classifier that can be loaded, but fails on the first tile."""
    shutil.copytree(valid, folder)
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


def test_the_archive_is_not_checked_if_files_are_left_in_the_inbox(settings):
    assert list(archive_findings(settings.intake)) == []


def test_an_archive_that_links_into_an_inbox_is_a_failure(settings, tmp_path):
    (inbox,) = settings.intake.inboxes
    (inbox / "old").mkdir()
    (tmp_path / "link").symlink_to(inbox / "old")
    archive = {"on_success": "move", "archive": tmp_path / "link"}
    found = list(archive_findings(settings.intake.model_copy(update=archive)))
    assert found[1].severity is Severity.FAILURE
    assert f"is a link into the inbox {inbox}" in found[1].message
    assert found[1].remedy.startswith("Set [intake] archive to a folder outside the inboxes")


def test_folders_that_finished_files_are_moved_to_are_checked(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.doctor.database._LOW_BYTES", 0)
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
    assert [(finding.check, finding.severity) for finding in found] == [
        (f"inbox {tmp_path / 'inbox'}", Severity.OK),
        ("[intake] archive", Severity.OK),  # it can be created
        ("[intake] archive", Severity.OK),  # and has space
        ("[intake] quarantine", Severity.FAILURE),
    ]


def test_a_compiled_plan_that_is_not_used_is_a_warning(settings, tmp_path):
    shutil.copytree(settings.bundle.path, tmp_path / "bundle")
    settings = settings.model_copy(update={"bundle": BundleSettings(path=tmp_path / "bundle")})
    (tmp_path / "bundle" / "tensorrt-fp16.plan.json").write_text("{}")
    found = problem(model_findings(settings, verified_bundle(settings)))
    assert found.startswith("warning: tensorrt-fp16.plan.json is not used. ")
    assert "is not a valid sidecar" in found
