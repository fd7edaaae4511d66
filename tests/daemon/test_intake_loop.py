"""The passes of the intake loop: discovery, settling and pauses."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest

from her2d.daemon import intake_loop as module
from her2d.daemon.intake_loop import IntakeLoop
from her2d.intake.backfill_search import BackfillSearch
from her2d.intake.watcher import Watcher
from her2d.queue.backfills import Backfills
from her2d.queue.job import JobState
from her2d.settings import IntakeSettings, ResultsSettings, Settings


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path, folder) -> Settings:
    return Settings(
        intake=IntakeSettings(
            inboxes=(folder,), settle_s=0.2, sweep_s=3600, poll_s=0.2, min_free_mb=10
        ),
        results=ResultsSettings(database=tmp_path / "her2d.sqlite", heatmaps=tmp_path / "heatmaps"),
    )


@pytest.fixture
def paused() -> threading.Event:
    return threading.Event()


@pytest.fixture
def run_until(settings, jobs, paused, storage) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Make passes until a condition holds."""
    loop = IntakeLoop(jobs, settings, threading.Event(), paused, storage)

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            loop.run_once()
            time.sleep(0.02)

    yield until
    loop.close()


def test_a_slide_that_an_event_names_is_queued_without_a_sweep(
    run_until, jobs, folder, write_slide
):
    write_slide(["S"], "early.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
    write_slide(["w"], "late.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_name_new_files_again_after_the_thread_that_translates_them_died(
    jobs, settings, paused, storage, folder, write_slide
):
    def dies(_timeout):
        raise RuntimeError("a defect in watchdog")

    def run_until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            loop.run_once()
            time.sleep(0.02)

    with closing(IntakeLoop(jobs, settings, threading.Event(), paused, storage)) as loop:
        write_slide(["S"], "early.tif", folder=folder)
        run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
        (emitter,) = loop._watcher._observer.emitters
        emitter.queue_events = dies
        write_slide(["w"], "lost.tif", folder=folder)
        run_until(lambda: loop.watch_restarts == 1)
        run_until(lambda: jobs.counts()[JobState.QUEUED] == 2)  # found by a search
        # The next search is an hour away, so only an event can name this file.
        write_slide(["ww"], "late.tif", folder=folder)
        run_until(lambda: jobs.counts()[JobState.QUEUED] == 3)
        assert loop.watch_restarts == 1


def test_a_pass_skips_a_slow_inbox_and_a_later_pass_finds_its_files(
    jobs, settings, paused, storage, folder, write_slide, monkeypatch
):
    write_slide(["S"], "a.tif", folder=folder)
    with closing(IntakeLoop(jobs, settings, threading.Event(), paused, storage)) as loop:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "slow", lambda _: frozenset({folder}))
            for _ in range(3):
                loop.run_once()
            assert jobs.in_state() == []
        loop.run_once()
        assert len(jobs.in_state()) == 1


def test_files_of_a_hanging_inbox_that_the_settings_no_longer_name_do_not_block_a_pass(
    jobs, settings, paused, storage, folder, tmp_path, write_slide, monkeypatch
):
    """Operators remove a share that hangs from the settings first."""
    write_slide(["S"], "a.tif", folder=folder)
    other = tmp_path / "other"
    other.mkdir()
    with closing(IntakeLoop(jobs, settings, threading.Event(), paused, storage)) as loop:
        loop.run_once()
        intake = settings.intake.model_copy(update={"inboxes": (other,)})
        monkeypatch.setattr(storage, "hanging", lambda: frozenset({folder}))
        monkeypatch.setattr("her2d.intake.inbox.FileState.of", lambda _: pytest.fail("it stalled"))
        loop.apply(settings.model_copy(update={"intake": intake}))
        loop.run_once()
        assert storage.status(folder) is not None  # the probe continues to check it
    assert jobs.counts()[JobState.SETTLING] == 1


def test_an_inbox_is_polled_if_the_limit_of_watches_is_reached(
    run_until, jobs, folder, write_slide, monkeypatch
):
    def full(_watcher, _inbox):
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(Watcher, "watch", full)
    write_slide(["S"], "early.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
    write_slide(["w"], "late.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 2)


def test_lost_events_cause_a_full_sweep(run_until, jobs, folder, write_slide, monkeypatch):
    write_slide(["S"], "early.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
    lost = iter([None])
    monkeypatch.setattr(Watcher, "take", lambda _watcher: next(lost, set()))
    write_slide(["w"], "late.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 2)


def test_no_file_is_discovered_while_disk_space_is_low(
    run_until, jobs, folder, write_slide, paused, monkeypatch
):
    room = SimpleNamespace(free_mb=0.0)
    monkeypatch.setattr(module, "least_free_mb", lambda _folders: room.free_mb)
    write_slide(["S"], "a.tif", folder=folder)
    run_until(paused.is_set)
    assert jobs.in_state() == []
    room.free_mb = 12.0
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
    assert not paused.is_set()


def test_an_inbox_that_was_deleted_and_created_again_is_watched_again(
    run_until, jobs, folder, write_slide
):
    write_slide(["S"], "a.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 1)
    (folder / "a.tif").unlink()
    folder.rmdir()
    folder.mkdir()
    time.sleep(0.3)
    write_slide(["w"], "b.tif", folder=folder)
    run_until(lambda: jobs.counts()[JobState.QUEUED] == 2)


def test_a_back_fills_folder_that_was_never_probed_is_not_read(
    run_until, settings, jobs, storage, tmp_path, monkeypatch
):
    """It may be on a share that hangs, and this thread does all passes."""
    archive = tmp_path / "archive"
    archive.mkdir()
    read: list[bool] = []
    run_once = BackfillSearch.run_once

    def noted(search: BackfillSearch, left_out: frozenset) -> None:
        if archive not in left_out:
            read.append(storage.status(archive) is not None)
        run_once(search, left_out)

    monkeypatch.setattr(BackfillSearch, "run_once", noted)
    run_until(lambda: True)
    passes: list[int] = []
    Backfills(jobs.database).request(archive, "alice")
    run_until(lambda: passes.append(1) or Backfills(jobs.database).all()[0].searched_at is not None)
    assert read[-1]
    assert False not in read
