"""The archive thread, also while storage hangs and the database fails."""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from captured_logs import capture_logs
from waiting import wait_until

from her2d.archive.safe_move import part_of
from her2d.daemon import archive_thread as module
from her2d.daemon.archive_thread import ArchiveThread
from her2d.queue.job import JobState
from her2d.settings import IntakeSettings, ResultsSettings, Settings
from her2d.system.file_identity import FileState


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "inbox").mkdir()
    return Settings(
        intake=IntakeSettings(
            inboxes=(tmp_path / "inbox",),
            on_success="move",
            archive=tmp_path / "archive",
            stalled_after_s=0.2,
        ),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite"),
    )


@pytest.fixture
def done(jobs, settings):
    """Create a file in the inbox with a finished job."""

    def make(name: str):
        (inbox,) = settings.intake.inboxes
        path = inbox / name
        path.write_bytes(name.encode() * 1000)
        job = jobs.discover(path, inbox, FileState.of(path))
        jobs.move(job, JobState.DONE, {})
        return jobs.get(job.id)

    return make


@pytest.fixture
def start_thread() -> Iterator[Callable[[Settings], tuple[ArchiveThread, threading.Event]]]:
    """Start an archive thread; return it and the event that stops it."""
    started = []

    def start(settings: Settings) -> tuple[ArchiveThread, threading.Event]:
        stop = threading.Event()
        archive_thread = ArchiveThread(lambda: settings, stop)
        thread = threading.Thread(target=archive_thread.run, daemon=True)
        thread.start()
        started.append((thread, stop))
        return archive_thread, stop

    yield start
    for thread, stop in started:
        stop.set()
        thread.join(10)


def test_a_finished_file_is_archived_soon(jobs, settings, done, start_thread):
    archive_thread, _ = start_thread(settings)
    for name in ("a.tif", "b.tif"):
        job = done(name)
        wait_until(lambda job=job: jobs.get(job.id).archived_at is not None)
    assert {path.name for path in settings.intake.archive.iterdir()} == {"a.tif", "b.tif"}
    wait_until(lambda: archive_thread.problem() is None)


def test_an_archive_that_hangs_is_reported(settings, done, start_thread, hanging_archive):
    done("a.tif")
    archive_thread, _ = start_thread(moving_to(hanging_archive, settings))
    wait_until(lambda: archive_thread.problem() is not None)
    assert archive_thread.problem().startswith("Moving finished files has made no progress for ")


def moving_to(archive, settings: Settings) -> Settings:
    intake = settings.intake.model_copy(update={"archive": archive})
    return settings.model_copy(update={"intake": intake})


def test_a_stop_interrupts_a_copy_between_two_chunks_and_the_next_start_finishes_it(
    jobs, settings, done, start_thread, hanging_archive
):
    job = done("a.tif")
    settings = moving_to(hanging_archive, settings)
    archive_thread, stop = start_thread(settings)
    wait_until(lambda: archive_thread.problem() is not None)
    pipe = part_of(hanging_archive / "a.tif")
    with capture_logs() as log:
        stop.set()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # the share answers
        wait_until(lambda: any(line["event"] == "archive_interrupted" for line in log))
    os.close(reader)
    assert job.path.exists()
    pipe.unlink()
    start_thread(settings)
    wait_until(lambda: jobs.get(job.id).archived_at is not None)
    assert [path.name for path in hanging_archive.iterdir()] == ["a.tif"]


def test_an_idle_archive_thread_does_not_report_a_problem(settings, start_thread):
    archive_thread, _ = start_thread(settings)
    time.sleep(2 * settings.intake.stalled_after_s)
    wait_until(lambda: archive_thread.problem() is None)


def test_archiving_continues_after_the_database_was_unavailable(
    jobs, settings, done, start_thread, monkeypatch
):
    monkeypatch.setattr(module, "_AFTER_ERROR_S", 0.1)
    job = done("a.tif")
    jobs.database.execute(
        "create trigger failing before update on jobs begin select raise(abort, 'no'); end"
    )
    with capture_logs() as log:
        start_thread(settings)
        wait_until(lambda: any(line["event"] == "archive_database_unavailable" for line in log))
    jobs.database.execute("drop trigger failing")
    wait_until(lambda: jobs.get(job.id).archived_at is not None)
