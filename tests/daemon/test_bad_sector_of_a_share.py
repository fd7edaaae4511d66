"""A file that its share cannot read: other slides of the share tell whether the share is the cause.

The sector is in the file's first MiB, so that no tile is read. The read error and the share are
played; the files, the queue, the processor and the daemon's workers are real.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from her2d.daemon.shutdown import StopSignals
from her2d.daemon.supervisor import Supervisor
from her2d.monitoring.metrics import Metrics
from her2d.processing.processor import open_processor
from her2d.processing.recorder import Recorder
from her2d.queue.job import Job, JobState
from her2d.settings import (
    InferenceSettings,
    IntakeSettings,
    PipelineSettings,
    ResultsSettings,
    Settings,
)
from her2d.system import io_errors
from her2d.system.file_identity import FileState

DETAIL = os.strerror(errno.EIO)


@pytest.fixture
def settings(tmp_path) -> Settings:
    shares = tmp_path / "share", tmp_path / "other"
    for share in shares:
        share.mkdir()
    return Settings(
        intake=IntakeSettings(inboxes=shares, max_attempts=2),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
        inference=InferenceSettings(threads=1),
        pipeline=PipelineSettings(
            segmenter_batch=1, classifier_batch=1, slides_in_flight=1, drain_s=0
        ),
    )


@pytest.fixture
def supervisor(settings, storage, color_bundle) -> Iterator[Supervisor]:
    signals = StopSignals()
    with open_processor(color_bundle, settings) as processor:
        recorder = Recorder(processor.bundle, processor.software, settings.results.heatmaps)
        supervisor = Supervisor(lambda: settings, processor, recorder, Metrics(), signals, storage)
        yield supervisor
        signals.stop_requested.set()
        supervisor.drain()


@pytest.fixture
def bad(settings, write_slide, monkeypatch) -> Path:
    """A slide whose first sector cannot be read."""
    path = write_slide(["wSw"], "bad.tif", folder=settings.intake.inboxes[0])
    pread = os.pread

    def read(descriptor: int, size: int, at: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == path:
            raise OSError(errno.EIO, DETAIL)
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", read)
    monkeypatch.setattr(io_errors, "needs_polling", lambda _folder, _watching: True)
    return path


@pytest.fixture
def attempt(supervisor, jobs) -> Callable[[Path], Job]:
    """Attempt a file once, and return its job."""

    def attempt(path: Path) -> Job:
        job = jobs.newest_of(path)
        if job is None:
            job = jobs.discover(path, path.parent, FileState.of(path))
            jobs.queue(job)
        jobs.database.execute("update jobs set not_before = null where id = ?", [job.id])
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            supervisor.check(jobs)
            now = jobs.get(job.id)
            if now.claim > job.claim and now.state is not JobState.RUNNING:
                return now
            time.sleep(0.02)

    return attempt


@pytest.fixture
def good(attempt, write_slide) -> Callable[[Path, int], None]:
    """Score one more slide of a folder."""

    def good(folder: Path, number: int) -> None:
        path = write_slide(["wSw"], f"good{number}.tif", folder=folder)
        with path.open("ab") as file:
            file.write(bytes(number))  # the same bytes would be a duplicate
        assert attempt(path).state is JobState.DONE

    return good


def test_it_waits_without_losing_an_attempt_while_no_other_slide_of_the_share_is_scored(
    settings, bad, attempt, good
):
    _, other = settings.intake.inboxes
    for number in range(1, 4):
        job = attempt(bad)
        assert (job.state, job.attempts) == (JobState.FAILED, 0)
        assert job.reason == f"bad.tif cannot be read: {DETAIL}."
        good(other, number)


def test_it_ends_after_its_attempts_once_others_of_the_share_are_scored_meanwhile(
    settings, bad, attempt, good
):
    share, _ = settings.intake.inboxes
    assert attempt(bad).attempts == 0
    good(share, 1)
    assert attempt(bad).attempts == 1
    assert attempt(bad).attempts == 1
    good(share, 2)
    job = attempt(bad)
    assert (job.state, job.attempts) == (JobState.QUARANTINED, 2)
    assert job.reason == (
        f"bad.tif cannot be read: {DETAIL}. Other slides there can be read, so its storage may have"
        " lost a part of it. Scan or copy it again. Given up after 2 attempts."
    )
    assert bad.exists()
