"""When the daemon notifies the watchdog of systemd, and when it does not."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from daemon_site import PATIENCE_S
from service_manager import ServiceManager, service_manager

from her2d.daemon import service as daemon_module
from her2d.daemon.service import Daemon
from her2d.pipeline.software import Software
from her2d.settings import (
    BundleSettings,
    IntakeSettings,
    OpsSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.slides.errors import SlideError

STALLED_S = 1.0


@pytest.fixture
def manager(tmp_path, monkeypatch) -> Iterator[ServiceManager]:
    with service_manager(tmp_path) as found:
        monkeypatch.setenv("NOTIFY_SOCKET", found.address)
        yield found


@pytest.fixture
def settings(tmp_path, color_bundle) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        bundle=BundleSettings(path=color_bundle.directory),
        intake=IntakeSettings(
            inboxes=(tmp_path / "inbox",), settle_s=0.1, stalled_after_s=STALLED_S
        ),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
        pipeline=PipelineSettings(slides_in_flight=1, drain_s=0),
        ops=OpsSettings(port=0),
    )


@pytest.fixture
def resume() -> threading.Event:
    return threading.Event()


@pytest.fixture
def running(settings, manager, monkeypatch, resume) -> Iterator[Daemon]:
    """A daemon whose processor hangs on every slide until `resume`."""

    def hangs(scan, *_, **__):
        resume.wait(PATIENCE_S)
        raise SlideError(scan.path.name, "was seen")

    manifest = SimpleNamespace(name="none", version="1")
    processor = SimpleNamespace(
        bundle=SimpleNamespace(manifest=manifest, digest="d" * 64, calibration=None),
        software=Software("none", "fp32", "none", "0", "0", "0", None),
        backend="none",
        unused_plans=(),
        capacity=1,
        pipeline=None,
        hash_and_score=hangs,
    )
    monkeypatch.setattr(
        daemon_module, "open_processor", lambda *_: contextlib.nullcontext(processor)
    )
    daemon = Daemon(settings)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    manager.wait_for("READY=1")
    yield daemon
    resume.set()
    daemon.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def notifications_stop(manager: ServiceManager) -> bool:
    """Return whether none arrives for some time, after those already sent are read."""
    return any(manager.receives_nothing_with("WATCHDOG=1", 4 * STALLED_S) for _ in range(100))


def test_an_idle_daemon_notifies_the_watchdog(running, manager):
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")


@pytest.mark.slow
def test_a_daemon_whose_slide_hangs_does_not_notify_the_watchdog(
    running, manager, settings, write_slide, resume
):
    (inbox,) = settings.intake.inboxes
    write_slide(["Sw"], "a.tif", folder=inbox)
    assert notifications_stop(manager)
    resume.set()
    manager.wait_for("WATCHDOG=1")


@pytest.mark.slow
def test_a_daemon_whose_database_stays_locked_does_not_notify_the_watchdog(
    running, manager, settings
):
    other = sqlite3.connect(settings.results.database, isolation_level=None, timeout=60)
    other.execute("begin exclusive")
    assert notifications_stop(manager)
    other.execute("rollback")
    other.close()
    manager.wait_for("WATCHDOG=1")


@pytest.mark.slow
def test_an_unexpected_error_in_a_pass_does_not_end_the_daemon(running, manager, monkeypatch):
    def odd(*_):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    with monkeypatch.context() as patch:
        patch.setattr(daemon_module.IntakeLoop, "run_once", odd)
        assert notifications_stop(manager)
    manager.wait_for("WATCHDOG=1")
