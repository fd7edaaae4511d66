"""A file that its share cannot read: other slides of the share show whether the file is the cause.

The sector is in the file's first MiB, so that no tile is read. The read error is simulated, and so
is that the two file systems are shares; these, the queue, the processor and the workers are real.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from waiting import wait_until

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
def other_share(tmp_path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def settings(tmp_path, other_share) -> Settings:
    share = tmp_path / "share"
    share.mkdir()
    return Settings(
        intake=IntakeSettings(inboxes=(share, other_share), max_attempts=2),
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

        def has_ended() -> bool:
            supervisor.check(jobs)
            now = jobs.get(job.id)
            return now.claim > job.claim and now.state is not JobState.RUNNING

        wait_until(has_ended)
        return jobs.get(job.id)

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


@pytest.mark.slow
def test_it_waits_without_losing_an_attempt_while_no_other_slide_of_the_share_is_read(
    bad, attempt, good, other_share
):
    for number in range(1, 4):
        job = attempt(bad)
        assert (job.state, job.attempts, job.unforeseen) == (JobState.FAILED, 0, number)
        assert job.reason == f"bad.tif cannot be read: {DETAIL}."
        good(other_share, number)


@pytest.mark.slow
def test_it_ends_after_its_attempts_once_others_of_the_share_are_read_meanwhile(
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
