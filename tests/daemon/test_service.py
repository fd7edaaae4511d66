"""What keeps systemd's watchdog quiet, and what does not: the daemon, with a worker that hangs."""

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
from her2d.settings import (
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
def settings(tmp_path) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(
            inboxes=(tmp_path / "inbox",), settle_s=0.1, stalled_after_s=STALLED_S
        ),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
        pipeline=PipelineSettings(slides_in_flight=1, drain_s=0),
        ops=OpsSettings(port=0),
    )


@pytest.fixture
def go_on() -> threading.Event:
    return threading.Event()


@pytest.fixture
def running(settings, manager, monkeypatch, go_on) -> Iterator[Daemon]:
    """A daemon whose processor hangs on every slide until `go_on`."""

    def hangs(path, _on_progress):
        go_on.wait(PATIENCE_S)
        raise SlideError(path.name, "was seen")

    manifest = SimpleNamespace(name="none", version="1")
    processor = SimpleNamespace(
        bundle=SimpleNamespace(manifest=manifest), backend="none", content_hash=hangs
    )
    monkeypatch.setattr(
        daemon_module, "open_processor", lambda *_: contextlib.nullcontext(processor)
    )
    daemon = Daemon(settings)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    manager.wait_for("READY=1")
    yield daemon
    go_on.set()
    daemon.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def hears_no_more_signs_of_life(manager: ServiceManager) -> bool:
    """Those that were sent before are heard first."""
    return any(manager.receives_nothing_with("WATCHDOG=1", 4 * STALLED_S) for _ in range(100))


def test_a_daemon_that_has_nothing_to_do_is_alive(running, manager):
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")


@pytest.mark.slow
def test_a_slide_that_hangs_is_not_followed_by_another_sign_of_life(
    running, manager, settings, write_slide, go_on
):
    (inbox,) = settings.intake.inboxes
    write_slide(["Sw"], "a.tif", folder=inbox)
    assert hears_no_more_signs_of_life(manager)
    go_on.set()
    manager.wait_for("WATCHDOG=1")


def test_a_database_locked_for_longer_than_a_slide_may_hang_is_no_life(running, manager, settings):
    other = sqlite3.connect(settings.results.database, isolation_level=None, timeout=60)
    other.execute("begin exclusive")
    assert hears_no_more_signs_of_life(manager)
    other.execute("rollback")
    other.close()
    manager.wait_for("WATCHDOG=1")


@pytest.mark.slow
def test_a_pass_that_meets_what_nobody_foresaw_does_not_end_the_daemon(
    running, manager, monkeypatch
):
    def odd(*_):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    with monkeypatch.context() as patch:
        patch.setattr(daemon_module.IntakeLoop, "run_once", odd)
        assert hears_no_more_signs_of_life(manager)
    manager.wait_for("WATCHDOG=1")
