"""A lost GPU ends the daemon and loses no slide."""

import os
import signal
import sys

import pytest

from her2d.cli import main
from her2d.db.connection import open_database, open_readonly
from her2d.inference.engine import DeviceLostError
from her2d.processing import processor as processing
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.results.listing import list_results


class Lost:
    """A real engine whose device is lost at the first upload."""

    def __init__(self, engine) -> None:
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def upload(self, tiles):
        raise DeviceLostError("The GPU is lost to this process.")


@pytest.fixture
def site(tmp_path, color_bundle, write_slide, monkeypatch):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[intake]\nsettle_s = 0.2\nsweep_s = 0.3\n'
        '[inference]\nbackend = "onnxruntime"\nthreads = 1\n[ops]\nport = 0\n'
        'log_format = "console"\n'  # a JSON log would make a child of this process
    )
    write_slide(["Sw"], "a.tif", folder=tmp_path / "inbox")
    command = ["her2d", "run", "--config", str(tmp_path / "config.toml")]
    monkeypatch.setattr("sys.argv", command)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_lost_gpu_ends_the_daemon_with_a_separate_exit_code_and_the_job_stays_queued(
    site, monkeypatch, capfd
):
    really_open = processing.open_engine
    monkeypatch.setattr(processing, "open_engine", lambda *a, **k: Lost(really_open(*a, **k)))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 75
    assert "The GPU is lost" in capfd.readouterr().err.splitlines()[-1]
    jobs = JobQueue(open_database(site / "her2d.sqlite"))
    (job,) = jobs.in_state(JobState.QUEUED)
    assert (job.path.name, job.reason, job.interruptions) == ("a.tif", None, 1)
    assert list_results(open_readonly(site / "her2d.sqlite")) == []
